"""What `shrink` cannot make faster is refused by name."""

import pytest

from effxfer.errors import SettingsError
from effxfer.stages.shrink.shrinkable import check_shrinkable
from tests import tiny, tiny_text, tiny_vectors


@pytest.mark.parametrize(("net", "unit"), [(tiny_text.text_net, "texts"), (tiny_vectors.vector_net, "vectors")])
def test_texts_and_vectors_are_refused(net, unit):
    with pytest.raises(SettingsError, match=f"makes networks of images faster, this one takes {unit}"):
        check_shrinkable("shrink", net(), tiny.settings_of("shrink"))


def test_a_trained_network_of_images_is_accepted(dense):
    check_shrinkable("shrink", dense.net(), tiny.settings_of("shrink"))
