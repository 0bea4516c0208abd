"""How a command line becomes a grid of settings."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mopo_pl.config.compose import compose
from mopo_pl.config.keys import known_keys, number_keys, sections, single_value_keys
from mopo_pl.errors import InputError
from mopo_pl.sweep.grid import Grid, alternatives, folder_name, split
from mopo_pl.sweep.ranges import is_range, read_range

ATOMS = st.one_of(
    st.integers(-99, 99).map(str),
    st.floats(-1e3, 1e3, allow_nan=False).map(repr),
    st.sampled_from(["ensemble_std", "null", "[256,256]", "[64, 64]", "{a: [1, 2]}", '"a, b"', "'x,y'", "[[1,2],[3]]"]),
)


@given(st.lists(ATOMS, min_size=1, max_size=6))
def test_what_is_joined_by_commas_is_parted_again(atoms: list[str]) -> None:
    assert split(",".join(atoms)) == atoms
    assert split(" , ".join(atoms)) == atoms


@settings(max_examples=50)
@given(st.text(alphabet="a,[]{}'\" ", max_size=20))
def test_parting_loses_nothing_but_spaces(text: str) -> None:
    assert ",".join(split(text)).replace(" ", "") == text.replace(" ", "")


@settings(max_examples=30)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_there_are_as_many_combinations_as_the_product_and_none_is_there_twice(sizes: list[int]) -> None:
    keys = ["penalty.coef", "rollout.horizon", "sac.tau", "seed"][: len(sizes)]
    grid = Grid.of([f"{key}={','.join(map(str, range(1, size + 1)))}" for key, size in zip(keys, sizes, strict=True)])
    combinations = [tuple(one.items()) for one in grid.combinations()]
    assert len(combinations) == len(set(combinations)) == math.prod(sizes)
    assert {key for one in combinations for key, _ in one} == set(keys)


@settings(max_examples=40)
@given(st.lists(st.text(alphabet="aB0.-_ /[]é", min_size=1, max_size=45), min_size=2, max_size=3, unique=True))
def test_different_values_have_different_folders_with_plain_names(values: list[str]) -> None:
    names = [folder_name({"penalty.name": value, "seed": "0"}, ["penalty.name"]) for value in values]
    assert len(set(names)) == len(values)
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-")


def test_keys_that_end_alike_are_told_apart_in_a_folder() -> None:
    combination = {"sac.batch_size": "64", "dynamics.batch_size": "128", "rollout.horizon": "5"}
    assert folder_name(combination, list(combination)) == "sac.batch_size-64_dynamics.batch_size-128_horizon-5_s0"


@pytest.mark.parametrize(
    ("key", "text", "values"),
    [
        ("penalty.coef", "0.5,2.5", ["0.5", "2.5"]),
        ("penalty.coef", "[0.5, 2.5]", ["0.5", "2.5"]),
        ("seed", "[0,1,2]", ["0", "1", "2"]),
        ("preset", "default,mbpo", ["default", "mbpo"]),
        ("sac.hidden_sizes", "[256,256]", ["[256,256]"]),
        ("sac.hidden_sizes", "[64],[256,256]", ["[64]", "[256,256]"]),
        ("data.action_low", "[-1,-1]", ["[-1,-1]"]),
        ("termination", "{bounds: {a: [0, 1]}},never", ["{bounds: {a: [0, 1]}}", "never"]),
        ("logger", "[csv,tensorboard]", ["[csv,tensorboard]"]),
        ("logger", "csv,tensorboard", ["csv,tensorboard"]),
        ("rollout.horizon", "5", ["5"]),
        ("penalty.free_quantile", "", [""]),
    ],
)
def test_the_values_of_a_key(key: str, text: str, values: list[str]) -> None:
    assert alternatives(key, text) == values


def test_a_log_whose_name_has_a_comma_is_one_log(tmp_path: Path) -> None:
    (tmp_path / "a,b.npz").touch()
    assert alternatives("dataset", str(tmp_path / "a,b.npz")) == [str(tmp_path / "a,b.npz")]


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("penalty.coef=1,,2", "penalty.coef=1,,2: a value is missing beside a comma; null stands for none"),
        ("penalty.coef=1,", "penalty.coef=1,: a value is missing beside a comma; null stands for none"),
        ("seed=[0,1,0]", "seed=[0,1,0]: a value is given twice"),
        ("penalty.coef", "penalty.coef: write key=value, or key=value,value for several"),
    ],
)
def test_what_is_no_grid_is_refused(argument: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        Grid.of([argument, "rollout.horizon=1,2"])
    assert error.value.problems == [problem]


# Keys


def test_keys_of_one_value_are_those_that_take_no_list() -> None:
    lists = {key for key in known_keys() if key not in single_value_keys()} - set(sections())
    assert {"sac.hidden_sizes", "dynamics.weight_decay", "data.action_low", "callbacks", "termination"} <= lists
    assert {"seed", "penalty.coef", "penalty.name", "penalty.relative", "sac.target_entropy"} <= single_value_keys()
    assert number_keys()["rollout.horizon"] is int
    assert number_keys()["penalty.coef"] is float
    assert not {"penalty.relative", "seed", "trainer.devices", "penalty.name"} & set(number_keys())


@pytest.mark.parametrize("argument", ["penalty.coef=0.5,2.5", "rollout.horizon=[5,20]", "penalty.relative=true,false"])
def test_train_names_the_command_that_takes_several_values(argument: str) -> None:
    with pytest.raises(InputError) as error:
        compose([argument])
    assert error.value.problems == [
        f"{argument}: it takes one value; python -m mopo_pl sweep takes several, and trains a run for each"
    ]


def test_train_names_the_command_that_takes_several_choices() -> None:
    with pytest.raises(InputError, match="preset=default,mbpo: there is no such choice; python -m mopo_pl sweep takes"):
        compose(["preset=default,mbpo"])


# Ranges


@given(st.floats(1e-6, 1e6), st.floats(1e-6, 1e6), st.booleans())
def test_a_range_reads_as_it_is_written(first: float, second: float, log: bool) -> None:
    low, high = sorted((first, second))
    text = f"{low!r}..{high!r}{' (log)' if log else ''}"
    assert is_range("penalty.coef", text)
    if low < high:
        drawn = read_range("penalty.coef", text)
        assert (drawn.low, drawn.high, drawn.log, drawn.whole) == (low, high, log, False)


@pytest.mark.parametrize(
    ("key", "text"), [("dataset", "1..2"), ("penalty.coef", "../x"), ("penalty.coef", "1...2"), ("seed", "0..3")]
)
def test_what_is_no_range(key: str, text: str) -> None:
    assert not is_range(key, text)


@pytest.mark.parametrize(
    ("key", "text", "problem"),
    [
        ("penalty.coef", "10..0.1", "penalty.coef=10..0.1: the lower end comes first, such as penalty.coef=0.1..10"),
        ("penalty.coef", "0..1 (log)", "penalty.coef=0..1 (log): a logarithmic range begins above 0"),
        ("rollout.horizon", "1..2.5", "rollout.horizon=1..2.5: it takes integers, and so must both ends be"),
    ],
)
def test_ends_that_do_not_fit_are_refused(key: str, text: str, problem: str) -> None:
    with pytest.raises(InputError) as error:
        read_range(key, text)
    assert error.value.problems == [problem]
