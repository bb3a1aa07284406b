"""The model that a study asks for: what computes, with which options, and where its first weights come from."""

from typing import Annotated, Literal

from pydantic import Field, SerializerFunctionWrapHandler, StringConstraints, model_serializer, model_validator

from consilium.core.ids import DIGEST
from consilium.core.parts import Json, Part, Shown, Slug
from consilium.core.timed import COX, TIES

ONNX = "onnx"
"""The kind of a model that is a graph in an ONNX file."""


class Model(Part):
    """The kind of model; `torch` takes an architecture of the catalogue or of a wheel named by its digest."""

    kind: Slug = Field(
        description="linear, logistic, poisson, cox, torch; xgboost or onnx, which are judged; or a plug-in"
    )
    l2: float = Field(0.0, ge=0, description="L2 penalty on the weights, not on the intercept")
    architecture: Shown | None = Field(None, description="name in the catalogue, or in the wheel")
    options: Json = Field(
        default_factory=dict,
        description="options of the architecture; of cox: `ties`, efron (the default) or breslow, which says how "
        "events at one time are counted; of onnx: `inputs`, `output`, `positive`, see the how-to",
    )
    wheel: Annotated[str, StringConstraints(pattern=DIGEST)] | None = Field(
        None, description="digest of a wheel with the study's own code; each site must approve it"
    )

    start: Literal["seed", "drawn", "given"] = Field(
        "seed",
        description="seed: the initial weights follow from `training.seed`, and each site makes and compares them; of "
        "linear, logistic, poisson and cox they are zero; drawn: of these, too, they are drawn from the seed, far from "
        "zero, for training by steps; given: they were made elsewhere, and each site must accept that by name",
    )
    untied: bool = Field(
        False,
        description="true: the safetensors that are given do not say by which plan they were trained, so that nothing "
        "ties them to this contract; each site's review and the report say so",
    )
    initial: Annotated[str, StringConstraints(pattern=DIGEST)] | None = Field(
        None, description="digest of the initial weights (safetensors); `study submit` fills it in"
    )

    @model_validator(mode="after")
    def _architecture_for_torch(self) -> "Model":
        if (self.kind == "torch") != (self.architecture is not None):
            raise ValueError("`architecture` belongs to kind torch, and kind torch needs one")
        if self.wheel is not None and self.kind != "torch":
            raise ValueError("`wheel` belongs to kind torch")
        return self

    @model_validator(mode="after")
    def _untied_if_given(self) -> "Model":
        if self.untied and (self.start != "given" or self.kind == ONNX):
            raise ValueError("`untied` belongs to `start: given`, and to a model as safetensors")
        return self

    @model_serializer(mode="wrap")
    def _where_it_is_said(self, handler: SerializerFunctionWrapHandler) -> Json:
        """`untied` is written only where it is true: a plan of before keeps its hash."""
        told: Json = handler(self)
        if not self.untied:
            told.pop("untied", None)
        return told

    @model_validator(mode="after")
    def _ties_of_cox(self) -> "Model":
        if self.kind == COX and (set(self.options) - {"ties"} or self.ties not in TIES):
            raise ValueError(f"`options` of kind {COX} are: `ties`, one of {', '.join(TIES)}")
        return self

    @property
    def foreign(self) -> bool:
        """Whether what computes was made elsewhere, a wheel's code or a graph: it runs confined."""
        return self.wheel is not None or self.kind == ONNX

    @property
    def ties(self) -> str:
        """How a Cox regression counts events at one time."""
        return str(self.options.get("ties", TIES[0]))
