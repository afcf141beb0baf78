"""What runs once, when a trained model is shipped."""
