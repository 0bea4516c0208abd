"""What is known of a run and its policy without a simulator: signs of trouble, estimates of the return, and their worth."""
