"""One Job for each message of a RabbitMQ queue.

The pure core: `keys` (which message is the same), `event_message` and `form` (kubernetes-event-jobs' messages and Jobs), `payload` (how a
pod is handed a message), `orders` (the run that a message asks for, or why there can be none), `window` (how many messages may be in hand),
`verdicts` (what a failed launch means for its message). The shell around it: `connection`, `dead_letters`, `consumer`, `trigger`.
"""
