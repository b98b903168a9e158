"""The HTTP interface: ``POST /predict``, ``GET /version`` and ``GET /health``."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Response
from pydantic import BaseModel, Field

from examples.miniserve.process import ModelFailed
from examples.miniserve.service import Service, Serving
from examples.miniserve.versions import Versions
from lynx_pipeline.config import load_settings


class PredictRequest(BaseModel):
    """The body of ``POST /predict``."""

    prompts: Annotated[list[str], Field(min_length=1, max_length=1000)]


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
            answers = await serving.process.ask(request.prompts)
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
