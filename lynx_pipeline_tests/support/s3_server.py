"""A server that speaks the protocol of S3, in its own process, and checks keys and signatures."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lynx_pipeline_tests.support.server_process import serving

BUCKET = "team"
_REGION = "us-east-1"
_ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}


@dataclass(frozen=True)
class S3:
    """The server's URL, and the key of a user who may do anything. It has the bucket
    :data:`BUCKET`."""

    url: str
    key: str
    secret: str

    @property
    def environ(self) -> Mapping[str, str]:
        """The variables with which AWS's libraries, and so DVC and MLflow, use this server."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": _REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL_S3": self.url,
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }

    def client(self, service: str = "s3") -> Any:
        """AWS's own client."""
        return _client(self.url, service, self.key, self.secret)

    def objects(self) -> dict[str, bytes]:
        """The objects in the bucket, by key."""
        client = self.client()
        listed = client.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {
            it["Key"]: client.get_object(Bucket=BUCKET, Key=it["Key"])["Body"].read()
            for it in listed
        }


@contextmanager
def running(folder: Path) -> Iterator[S3]:
    """A server, for as long as the block runs. Its log is in ``folder``."""
    with serving(
        "moto.server",
        health="/moto-api/data.json",
        log=folder / "s3.log",
        # After four requests, those of :func:`_user`, it checks keys.
        environ={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": "4"},
    ) as url:
        yield S3(url, *_user(url))


def _user(url: str) -> tuple[str, str]:
    iam = _client(url, "iam", "nobody", "nothing")
    iam.create_user(UserName="team")
    policy = json.dumps(_ANYTHING)
    iam.put_user_policy(UserName="team", PolicyName="all", PolicyDocument=policy)
    made = iam.create_access_key(UserName="team")["AccessKey"]
    _client(url, "s3", "nobody", "nothing").create_bucket(Bucket=BUCKET)
    return made["AccessKeyId"], made["SecretAccessKey"]


def _client(url: str, service: str, key: str, secret: str) -> Any:
    import boto3

    return boto3.client(
        service,
        endpoint_url=url,
        region_name=_REGION,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
    )
