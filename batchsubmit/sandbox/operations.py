"""The operations the sandbox has, by the names of the service model. It must not know what they do."""

from typing import Final

START: Final = "StartTrainedModelInferenceJob"
GET: Final = "GetTrainedModelInferenceJob"
LIST: Final = "ListTrainedModelInferenceJobs"
CANCEL: Final = "CancelTrainedModelInferenceJob"
GET_MODEL: Final = "GetTrainedModel"
GET_CHANNEL: Final = "GetMLInputChannel"
TAG: Final = "TagResource"
UNTAG: Final = "UntagResource"
LIST_TAGS: Final = "ListTagsForResource"

OPERATIONS: Final = (START, GET, LIST, CANCEL, GET_MODEL, GET_CHANNEL, TAG, UNTAG, LIST_TAGS)
