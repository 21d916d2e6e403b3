"""A real RabbitMQ for the tests: Debian's, started by us, in a folder of its own."""
