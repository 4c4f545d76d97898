#!/bin/sh
# Makes a worker's queue and its dead-letter queue, or leaves them as they are if they are so already.
# Usage: create-queue.sh [NAME]   (a NAME that ends in .fifo makes FIFO queues; AWS_REGION and credentials as usual)
# Prints the queue's URL, for: batchsubmit worker --queue-url URL
set -eu

name=${1:-batchsubmit}
case $name in
  *.fifo) dead=${name%.fifo}-dead.fifo fifo=',"FifoQueue":"true"' ;;
  *) dead=$name-dead fifo= ;;
esac

# 14 days, the longest there is: what is in a dead-letter queue waits for a person, and its clock began in the first.
common="\"MessageRetentionPeriod\":\"1209600\",\"SqsManagedSseEnabled\":\"true\"$fifo"

dead_url=$(aws sqs create-queue --queue-name "$dead" --attributes "{$common}" --query QueueUrl --output text)
dead_arn=$(aws sqs get-queue-attributes --queue-url "$dead_url" --attribute-names QueueArn \
  --query Attributes.QueueArn --output text)

# maxReceiveCount, the most there is: a worker sets poison aside itself, at once, and a job that waits for a slot is
# received several times. So this guards only against a message that kills its worker each time.
redrive="\"RedrivePolicy\":\"{\\\"deadLetterTargetArn\\\":\\\"$dead_arn\\\",\\\"maxReceiveCount\\\":\\\"1000\\\"}\""
timing='"VisibilityTimeout":"300","ReceiveMessageWaitTimeSeconds":"20"'
url=$(aws sqs create-queue --queue-name "$name" --attributes "{$common,$timing,$redrive}" \
  --query QueueUrl --output text)
arn=$(aws sqs get-queue-attributes --queue-url "$url" --attribute-names QueueArn \
  --query Attributes.QueueArn --output text)

# Only this queue may use that dead-letter queue, and `aws sqs start-message-move-task` can move messages back to it.
aws sqs set-queue-attributes --queue-url "$dead_url" --attributes \
  "{\"RedriveAllowPolicy\":\"{\\\"redrivePermission\\\":\\\"byQueue\\\",\\\"sourceQueueArns\\\":[\\\"$arn\\\"]}\"}"

echo "$url"
