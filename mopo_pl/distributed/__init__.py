"""Several processes: what they tell each other, how they start, what they print, how signals stop them."""
