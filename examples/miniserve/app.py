"""The HTTP interface: ``POST /predict``, ``GET /version`` and ``GET /health``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field, model_validator

from examples.miniserve.process import ModelFailed
from examples.miniserve.service import Service, Serving
from examples.miniserve.versions import Versions
from lynx_pipeline.config import load_settings

_MOST = 1000  # prompts in a request


class PredictRequest(BaseModel):
    """The body of ``POST /predict``: prompts, or for a model that takes several, its inputs."""

    prompts: Annotated[list[str], Field(max_length=_MOST)] = []
    inputs: Annotated[list[dict[str, str]], Field(max_length=_MOST)] = []

    @model_validator(mode="after")
    def _check(self) -> "PredictRequest":
        if bool(self.prompts) == bool(self.inputs):
            raise ValueError("expected either prompts or inputs")
        if len({frozenset(item) for item in self.inputs}) > 1:
            raise ValueError("expected the same inputs in each item")
        return self


def create_app(poll: float) -> FastAPI:
    """The service of the project in the working directory. It looks at the registry every ``poll``
    seconds."""
    service = Service(Versions(load_settings()), poll)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(service.run())
        yield
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        await service.close()

    app = FastAPI(title="miniserve", lifespan=lifespan)

    @app.post("/predict")
    async def predict(request: PredictRequest) -> dict[str, Any]:
        serving = _loaded(service)
        semver = serving.version.semver
        try:
            answers = await serving.process.ask(request.prompts or request.inputs)
        except ModelFailed as error:
            raise HTTPException(500, f"{semver} did not answer: {error}") from None
        return {"version": semver, "answers": answers}

    @app.get("/version")
    async def version() -> dict[str, str]:
        serving = _loaded(service)
        return {**asdict(serving.version), "since": serving.since}

    @app.get("/health")
    async def health(response: Response) -> dict[str, str | None]:
        response.status_code = 503 if service.serving is None else 200
        return {
            "version": service.serving.version.semver if service.serving else None,
            "problem": service.problem,
            "problem_since": service.problem_since,
        }

    return app


def _loaded(service: Service) -> Serving:
    if service.serving is None:
        raise HTTPException(503, "No model is loaded. GET /health says why.")
    return service.serving
