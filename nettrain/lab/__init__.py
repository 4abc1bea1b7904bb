"""What trains and judges: it imports the algorithms, never the other way round."""
