"""What every face needs: which cluster and which repository are meant, what is built from that, and the words and shapes of what is told."""
