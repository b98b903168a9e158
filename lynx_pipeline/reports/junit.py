"""A run's outcome as a JUnit XML file, which CI systems show as tests: one per bucket."""

from xml.etree import ElementTree

from lynx_pipeline.domain.gate.rule import Verdict
from lynx_pipeline.domain.text import printable


def junit(name: str, verdict: Verdict | None, error: str | None) -> bytes:
    """The test suite ``name``. Every bucket of the verdict is a test, which fails with the bucket's
    reason. ``error``, why there is no verdict or no promotion, is one more test."""
    suite = ElementTree.Element("testsuite", name=name)
    buckets = verdict.buckets if verdict else ()
    for bucket in buckets:
        dimension, _, value = bucket.name.partition(".")
        case = ElementTree.SubElement(suite, "testcase", classname=dimension, name=value)
        if not bucket.passed:
            ElementTree.SubElement(case, "failure", message=bucket.reason)
    if error is not None:
        case = ElementTree.SubElement(suite, "testcase", classname="lynx-pipeline", name="run")
        ElementTree.SubElement(case, "error", message=printable(error))
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(len(verdict.failed) if verdict else 0))
    suite.set("errors", str(int(error is not None)))
    text: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return text + b"\n"
