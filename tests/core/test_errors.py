"""An error begins with the function that the user called; what it costs is paid by an error alone.

That each public function does so for each argument is in test_bad_input.py.
"""

import functools
import re
import threading
from pathlib import Path

import numpy as np
import pytest

import fastinit as fi

PACKAGE = Path(fi.__file__).parent
X = np.empty((4, 6), np.float32)


class Mine(fi.Generator):
    """A user's own class of ours."""

    def draw(self):
        return self.normal("a")


class OnAGPU:
    """Memory of a device that is not there."""

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **_):
        raise BufferError


def set_state():
    fi.PCG32(1).state = 3


def numbers():
    raise AssertionError(fi.normal_(X, std=-1))


NAMED = [
    (lambda: fi.normal_(X, std="a"), "normal_(): std='a' must be a real number"),
    (lambda: fi.kaiming_normal(3, a="b"), "he_normal(): a='b' must be a real number"),
    (lambda: fi.normal_([X, 3]), "normal_(): x[1]: x=3 is no array"),
    (lambda: fi.trunc_normal_(X, b=-3), "trunc_normal_(): a=-2.0 must not be greater than b=-3.0"),
    (lambda: fi.PCG32("x"), "PCG32(): seed='x' is not a seed"),
    (lambda: fi.PCG32(1).advance(0.5), "PCG32.advance(): delta=0.5 must be an integer"),
    (set_state, "PCG32.state: state=3 must be a mapping"),
    (lambda: fi.Generator(3), "Generator(): seed_sequence=3 must be a SeedSequence"),
    (lambda: fi.default_rng(1).advance(-3), "Generator.advance(): n=-3 moves the position"),
    (lambda: fi.default_rng(1).normal(out=X, scale=-1), "Generator.normal(): scale=-1.0 must be"),
    (lambda: fi.Initializer("x"), "Initializer(): name='x' is unknown"),
    (lambda: fi.Initializer.parse("he(a=)"), "Initializer.parse(): text='he(a=)': allowed: a name"),
    (lambda: fi.Initializer.parse("he(b=1)"), "Initializer.parse(): text='he(b=1)': he_normal has"),
    (lambda: fi.Initializer("eye").check(3), "Initializer.check(): "),
    # What stands between the user and the function, and the other way round.
    (lambda: Mine(np.random.SeedSequence(1)).draw(), "Generator.normal(): loc='a' must be"),
    (lambda: functools.partial(fi.normal_, std="a")(X), "normal_(): std='a'"),
    (lambda: next(map(fi.ones_, [3])), "ones_(): x=3 is no array"),
    (lambda: fi.lsuv_(X, output=numbers), "normal_(): std=-1.0 must be 0 or greater"),
    (lambda: fi.blocks_(X, fi.normal_, (3, 3), std=-1), "blocks_(): std=-1.0 must be 0 or greater"),
    # Python's own, in the name of the allocating form.
    (lambda: fi.constant(3), "constant() missing 1 required positional argument: 'value'"),
]
if fi.cuda.missing():
    NAMED.append(
        (lambda: fi.normal_(OnAGPU()), "normal_(): x is in a GPU's memory, which fastinit")
    )


@pytest.mark.parametrize(("call", "text"), NAMED, ids=[text for _, text in NAMED])
def test_an_error_begins_with_the_function_that_was_called(call, text):
    with pytest.raises((TypeError, ValueError, RuntimeError)) as error:
        call()
    assert str(error.value).startswith(text)
    assert str(error.value).count("(): ") <= 1  # and says it once


def test_in_a_thread_and_in_its_traceback_too():
    said = []

    def run():
        try:
            fi.he_normal((3, 3), a="b")
        except TypeError as error:
            at = error.__traceback__.tb_next
            said.extend([str(error), at.tb_frame.f_code.co_name])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert said == ["he_normal(): a='b' must be a real number", "he_normal"]


def test_recipes_name_what_they_have_read(tmp_path):
    from fastinit import recipe

    path = tmp_path / "r.toml"
    rule = '[[rule]]\npattern = "w"\ninit = "normal"\nstd = -1.0\n'
    path.write_text(f'name = "r"\n[tensors]\n"w" = [3]\n{rule}')
    with pytest.raises(ValueError, match=r"rule 'w': normal\(std=-1.0\): std=-1.0 must") as error:
        recipe.load(path).plan()
    assert "(): " not in str(error.value)


def test_every_refusal_in_the_package_goes_through_it():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{line}"
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("cli", "recipe", "_errors.py")
        for line, text in enumerate(path.read_text("utf-8").splitlines(), 1)
        if re.search(r"raise (TypeError|ValueError)\(", text)
    }
    assert not found
