"""Jobs from an SQS queue: messages received, held and kept hidden, their jobs handed out, messages deleted."""
