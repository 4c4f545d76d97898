"""The request as the service model describes it: columns, checks, JSON Schema and the canonical spelling.

Values in, values out. It reads botocore's model file and knows nothing else of AWS, of manifests or of jobs.
"""

from batchsubmit.schema.checks import Part, RequestChecker
from batchsubmit.schema.columns import columns, json_schema
from batchsubmit.schema.faults import Fault, Problem
from batchsubmit.schema.json_text import JsonError, canonical, read_json, without_nulls

__all__ = [
    "Fault",
    "JsonError",
    "Part",
    "Problem",
    "RequestChecker",
    "canonical",
    "columns",
    "json_schema",
    "read_json",
    "without_nulls",
]
