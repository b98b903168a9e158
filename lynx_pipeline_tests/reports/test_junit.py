"""The JUnit file, as an XML parser reads it."""

from xml.etree import ElementTree

from lynx_pipeline.reports.junit import junit
from lynx_pipeline_tests.reports.test_reports import REFUSED


def test_every_bucket_is_a_test() -> None:
    """A failed bucket is a failed test, with its reason."""
    suite = ElementTree.fromstring(junit("tutor v1.0.0", REFUSED, None))
    assert suite.attrib == {"name": "tutor v1.0.0", "tests": "4", "failures": "3", "errors": "0"}
    cases = {f"{case.get('classname')}.{case.get('name')}": list(case) for case in suite}
    assert cases.keys() == {bucket.name for bucket in REFUSED.buckets}
    assert cases["t.kept"] == []
    assert [it.get("message") for it in cases["t.bad"]] == [
        "t.bad: fell 3.00 points, 1.00 below its floor"
    ]


def test_a_run_without_a_verdict_is_an_error() -> None:
    """A file without tests would look like success. Control characters are not valid in XML."""
    suite = ElementTree.fromstring(junit("tutor", None, "the candidate crashed: \x1b[31m<&>"))
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("1", "0", "1")
    (error,) = suite.iter("error")
    assert error.get("message") == "the candidate crashed: ?[31m<&>"
