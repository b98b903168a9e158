"""Bucket names of all kinds, for property tests."""

import unicodedata

from hypothesis import strategies as st

from lynx_pipeline.domain.scores import name_problem

# Letters of several alphabets, what Markdown, HTML, SQL and shells treat specially, and spaces.
_TEXT = st.text(
    st.sampled_from("abzABZ019_- |*`[](){}<>&\"'\\/$#!~@:;,?%=+\u00e9\u00df\u044f\u6771\u0639")
    | st.characters(exclude_categories=("C", "Zl", "Zp")),
    min_size=1,
    max_size=12,
)

BUCKET_NAMES = (
    st.tuples(_TEXT.map(lambda text: text.replace(".", "")), _TEXT)
    .map(lambda parts: unicodedata.normalize("NFC", ".".join(part.strip() for part in parts)))
    .filter(lambda name: name_problem(name) is None)
)
