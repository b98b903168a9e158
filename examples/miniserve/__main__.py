"""``python -m examples.miniserve``, in a project: serve its promoted model."""

import argparse
import logging
import os


def main() -> None:
    """Run the service until it is interrupted."""
    # Each model's process imports this module too, and needs none of these.
    import uvicorn

    from examples.miniserve.app import create_app

    parser = argparse.ArgumentParser(description="Serve the promoted model of this project.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--poll", type=float, default=5.0, help="seconds between registry reads")
    options = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it would start threads
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s")
    uvicorn.run(create_app(options.poll), host=options.host, port=options.port, access_log=False)


if __name__ == "__main__":
    main()
