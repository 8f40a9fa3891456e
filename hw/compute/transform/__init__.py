"""What mode HFA puts in front of the columns: transformed activations, and who paces them."""
