"""Training a stored prior further: which parameters, by which criterion."""
