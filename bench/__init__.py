"""What Jobyard costs, beside a raw HTTP client that does the same in the same run: `scripts/bench`."""
