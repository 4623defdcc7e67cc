"""A folder belongs to one search, by its settings, and to one process at a time."""

import json

import pytest

from nfm_tfrs.tuning.search import claim, held

SETTINGS = {"data": "9f2c", "seed": 0, "space.blocks": ["fm"], "schedule.passes": 2}
YESTERDAY = {"data": "9f2c", "seed": 0, "space": [["ranking"], ["fm"]], "passes": 2.0, "ceilings": [None, None]}


def test_a_folder_is_made_and_claimed_again_by_the_same_search(tmp_path):
    folder = tmp_path / "new" / "search"
    claim(folder, SETTINGS)
    before = (folder / "settings.json").stat().st_mtime_ns
    claim(folder, SETTINGS)
    assert json.loads((folder / "settings.json").read_text()) == SETTINGS
    assert (folder / "settings.json").stat().st_mtime_ns == before


def test_another_search_in_the_folder_is_refused_by_the_settings_that_differ(tmp_path):
    claim(tmp_path, SETTINGS)
    with pytest.raises(ValueError, match=r"holds a search with other seed\. Choose another folder\."):
        claim(tmp_path, {**SETTINGS, "seed": 1})
    with pytest.raises(ValueError, match=r"holds a search with other space\.blocks, schedule\.passes\. Choose another"):
        claim(tmp_path, {**SETTINGS, "space.blocks": ["cross"], "schedule.passes": 3})


def test_a_search_of_version_010_does_not_go_on(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps(YESTERDAY))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        claim(tmp_path, SETTINGS)
    assert str(caught.value) == (
        f"{tmp_path} holds a search of nfm-tfrs 0.1.0, which cannot go on. Choose another folder."
    )
    assert json.loads((tmp_path / "settings.json").read_text()) == YESTERDAY  # as it was


def test_a_search_whose_space_was_an_earlier_one_does_not_go_on(tmp_path):
    (tmp_path / "settings.json").write_text(json.dumps({**SETTINGS, "schedule.strategy": "halving"}))
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole line is compared
        claim(tmp_path, SETTINGS)
    assert str(caught.value) == (
        f"{tmp_path} holds a search that an earlier version began, which cannot go on. Choose another folder."
    )


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds something that is no search\. Choose another folder\."):
        claim(tmp_path, SETTINGS)
    assert not (tmp_path / "settings.json").exists()


def test_what_another_process_of_the_same_search_begins_to_write_is_no_obstacle(tmp_path):
    (tmp_path / ".settings.json.unfinished-1.json").write_text("{")
    claim(tmp_path, SETTINGS)
    assert json.loads((tmp_path / "settings.json").read_text()) == SETTINGS


def test_one_process_at_a_time_searches_in_a_folder(tmp_path):
    with (
        held(tmp_path),
        pytest.raises(ValueError, match=r"Another process searches in .* Wait for it, or choose another"),
    ):
        held(tmp_path).__enter__()
    with held(tmp_path):  # it was let go of
        pass


def test_what_a_killed_search_had_not_finished_is_removed_by_the_next(tmp_path):
    (tmp_path / ".model.keras.unfinished-7f.keras").write_text("half")
    (tmp_path / ".settings.json.unfinished-7f.json").write_text("{")  # another process may write it at this moment
    with held(tmp_path):
        assert sorted(path.name for path in tmp_path.iterdir()) == [".lock", ".settings.json.unfinished-7f.json"]


def test_a_folder_that_cannot_be_locked_is_searched_in_with_a_warning(tmp_path, monkeypatch):
    def acquire(*_, **__):
        raise NotImplementedError("FileSystem does not appear to support flock")

    monkeypatch.setattr("filelock.FileLock.acquire", acquire)
    with pytest.warns(UserWarning, match="cannot be locked: start one search in it at a time"), held(tmp_path):
        pass
