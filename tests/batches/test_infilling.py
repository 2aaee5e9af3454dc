import dataclasses
from collections import Counter

import numpy as np
import pytest

from codecria.batches.infilling import render_piece
from codecria.batches.recipe import BatchRecipe, InfillRecipe, LossRecipe
from codecria.infill.layout import Sentinels
from codecria.tokenizer.sentinels import add_sentinels
from codecria.tokenizer.tokenizer import Tokenizer
from tests.tiny import write_tiny_checkpoint

TEXT = "def area(radius):\n    # the area of a disc\n    return 3.14159 * radius**2\n\n\nprint(area(2))\n"


@pytest.fixture(scope="module")
def markers(tmp_path_factory) -> tuple[Tokenizer, Sentinels]:
    folder = write_tiny_checkpoint(tmp_path_factory.mktemp("tiny"))
    return add_sentinels(Tokenizer.from_folder(folder))


def render(markers, key=0, slot=500, eligible=True, end_ids=(), **changes):
    recipe = BatchRecipe(infill=InfillRecipe(**changes.pop("infill", {})), **changes)
    tokenizer, sentinels = markers
    return render_piece(
        tokenizer,
        sentinels,
        TEXT,
        recipe,
        key=("seed", key),
        slot=slot,
        eligible=eligible,
        end_ids=list(end_ids),
        language="Python",
    )


def test_rate_and_orders_are_the_recipe_s(markers):
    forms = Counter(render(markers, key, infill={"rate": 0.9, "psm_share": 0.5}).form for key in range(600))
    assert abs(forms["plain"] / 600 - 0.1) < 0.04
    assert abs(forms["psm"] / 600 - 0.45) < 0.07
    assert forms["psm"] + forms["spm"] + forms["plain"] == 600


def test_the_draw_depends_on_the_key_alone(markers):
    again = [render(markers, key) for key in range(20)]
    for key in reversed(range(20)):
        assert render(markers, key).ids == again[key].ids


def test_every_middle_has_its_end_and_full_weight(markers):
    tokenizer, sentinels = markers
    for key in range(50):
        rendered = render(markers, key, infill={"rate": 1.0}, loss=LossRecipe(context_share=0.0))
        assert rendered.ids[-1] == sentinels.end[0]
        assert (rendered.weights[rendered.middle_start :] == 1).all()
        assert (rendered.weights[: rendered.middle_start] == 0).all()
        heavier = render(markers, key, infill={"rate": 1.0}, loss=LossRecipe(context_share=0.0, end_weight=4.0))
        assert heavier.weights[-1] == 4
        assert (heavier.weights[:-1] == rendered.weights[:-1]).all()
        text = tokenizer.decode(rendered.ids)
        assert sorted(text) == sorted(TEXT)


def test_spm_may_encode_the_middle_alone(markers):
    tokenizer, sentinels = markers
    differ = 0
    for key in range(50):
        joined, apart = (
            render(markers, key, infill={"rate": 1.0, "psm_share": 0.0, "spm_joined": each}) for each in (True, False)
        )
        middle = tokenizer.decode_infilling(apart.ids[apart.middle_start : -1])
        assert apart.ids[apart.middle_start :] == [*tokenizer.encode_infilling(middle), sentinels.end[0]]
        assert tokenizer.decode(apart.ids) == tokenizer.decode(joined.ids)
        differ += apart.ids != joined.ids
    assert differ > 25


def test_a_token_across_the_border_may_carry_less(markers):
    loss = LossRecipe(context_share=0.0, end_weight=4.0, straddling_weight=0.0)
    across = 0
    for key in range(100):
        rendered = render(markers, key, infill={"rate": 1.0, "psm_share": 0.0, "units": "line"}, loss=loss)
        middle = rendered.weights[rendered.middle_start :]
        assert middle[-1] == 4
        assert (middle[1:-1] == 1).all() and (middle[:-1][:1] <= 1).all()
        across += middle[0] == 0
    assert 0 < across < 100


def test_context_weight_is_a_share_of_the_tokens_and_markers_carry_none(markers):
    _, sentinels = markers
    shares = []
    for key in range(100):
        rendered = render(markers, key, infill={"rate": 1.0, "psm_share": 1.0}, loss=LossRecipe(context_share=0.15))
        context = rendered.weights[1 : rendered.middle_start]
        shares.append(context.mean())
        at = np.isin(np.array(rendered.ids), [sentinels.prefix, sentinels.suffix, sentinels.middle])
        assert (rendered.weights[at] == 0).all()
    assert abs(np.mean(shares) - 0.15) < 0.03


def test_what_outgrows_its_slot_stays_left_to_right(markers):
    tokenizer, _ = markers
    plain = tokenizer.encode(TEXT)
    rendered = render(markers, slot=len(plain) + 1, infill={"rate": 1.0})
    assert rendered.form == "outgrown"
    assert rendered.ids == plain


def test_cut_documents_are_not_infilled_at_document_level(markers):
    assert {render(markers, key, eligible=False, infill={"rate": 1.0}).form for key in range(20)} == {"plain"}


def test_a_plain_document_ends_with_its_end(markers):
    rendered = render(markers, infill={"rate": 0.0}, end_ids=[0])
    assert rendered.ids[-1] == 0
    assert rendered.weights[0] == 0
    assert rendered.weights[1:].all()


def test_pieces_shorter_than_min_characters_stay_left_to_right(markers):
    for least, forms in ((len(TEXT), {"psm", "spm"}), (len(TEXT) + 1, {"plain"})):
        infill = {"rate": 1.0, "min_characters": least}
        assert {render(markers, key, infill=infill).form for key in range(20)} == forms


def test_orders_a_family_lacks_are_not_drawn(markers):
    tokenizer, sentinels = markers
    spm_only = (tokenizer, dataclasses.replace(sentinels, orders=("spm",)))
    assert {render(spm_only, key, infill={"rate": 1.0}).form for key in range(20)} == {"spm"}


def test_units_are_a_mapping_or_one_name(markers):
    def middles(units):
        made = [render(markers, key, infill={"rate": 1.0, "psm_share": 1.0, "units": units}) for key in range(100)]
        return [markers[0].decode(each.ids[each.middle_start :]) for each in made]

    assert InfillRecipe(units="line").units == {"line": 1.0}
    assert middles("line") == middles({"line": 7})
    assert all(middle.count("\n") < 4 for middle in middles("line"))
    nodes = middles("syntax")
    assert {"(radius)", "3.14159 * radius**2", "print(area(2))"} <= set(nodes)
    both = middles({"line": 0.5, "character": 0.5})
    assert set(both) & set(middles("line"))
    assert set(both) - set(middles("line"))


@pytest.mark.parametrize("units", [{}, {"word": 1}, {"line": 0}, "words"])
def test_units_that_cannot_be_drawn_are_refused(units):
    with pytest.raises(ValueError, match="units"):
        InfillRecipe(units=units)
