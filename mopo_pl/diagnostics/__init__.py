"""What is known of a policy without a simulator: estimates of its return, and what they are worth."""
