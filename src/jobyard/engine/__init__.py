"""What makes runs go on: observe, decide, act, in a loop."""
