"""Random conversations, told to the embedded server and to a real one at once, and compared answer by answer."""
