#!/bin/sh
# Makes the DynamoDB table of a shared ledger, with what `batchsubmit ledger create-table` leaves to you: protection
# against deletion, and recovery to any second of the last 35 days.
# Usage: create-table.sh [TABLE]   (AWS_REGION and credentials as usual)
# Prints the ledger's name, for: batchsubmit worker --ledger dynamodb://TABLE
set -eu

table=${1:-batchsubmit}

aws dynamodb create-table --table-name "$table" \
  --attribute-definitions AttributeName=pk,AttributeType=S AttributeName=sk,AttributeType=S \
  --key-schema AttributeName=pk,KeyType=HASH AttributeName=sk,KeyType=RANGE \
  --billing-mode PAY_PER_REQUEST --deletion-protection-enabled \
  --query TableDescription.TableArn --output text >&2
aws dynamodb wait table-exists --table-name "$table"
aws dynamodb update-continuous-backups --table-name "$table" \
  --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true \
  --query ContinuousBackupsDescription.PointInTimeRecoveryDescription.PointInTimeRecoveryStatus --output text >&2

echo "dynamodb://$table"
