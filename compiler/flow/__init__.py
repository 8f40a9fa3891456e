"""What outlives a straight line of operators: state from run to run."""
