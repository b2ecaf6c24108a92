"""Speed and memory of the package beside others: README.md."""
