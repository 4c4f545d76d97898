"""The operations the sandbox has, by the names of the service model. It must not know what they do."""

from typing import Final

START: Final = "StartTrainedModelInferenceJob"
GET: Final = "GetTrainedModelInferenceJob"
LIST: Final = "ListTrainedModelInferenceJobs"
CANCEL: Final = "CancelTrainedModelInferenceJob"
GET_MODEL: Final = "GetTrainedModel"
TAG: Final = "TagResource"
UNTAG: Final = "UntagResource"
LIST_TAGS: Final = "ListTagsForResource"

OPERATIONS: Final = (START, GET, LIST, CANCEL, GET_MODEL, TAG, UNTAG, LIST_TAGS)
