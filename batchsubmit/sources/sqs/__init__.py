"""Jobs from an SQS queue: what a message means, how long it is held, when it goes back, and the source over all that.

Pure: `envelopes` and `message` (what is asked), `terms` (the queue's settings), `custody` (heartbeats and the 12-hour
limit), `outgoing` (batches to send). With I/O: `queue` (the client), `removal`, `handback`, `keeper`, `intake`,
`expansion`, and `source`, which the engine sees.
"""
