"""What the tests of refused arguments share: an error and its whole message."""

import pytest


def refused(call, error, text):
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == text
