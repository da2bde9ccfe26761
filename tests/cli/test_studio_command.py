"""``pushforward studio`` as a user types it, up to the moment when it would serve."""

import subprocess
import sys

from command_line import call, refused

import pushforward


def test_other_machines_need_a_password_and_a_folder_must_exist(tmp_path):
    assert "needs a password" in refused("studio", "--host", "0.0.0.0", "--no-browser", at=tmp_path)
    assert "there is no folder nowhere" in refused("studio", "--folder", "nowhere", at=tmp_path)
    assert call("studio", "--port", "70000", at=tmp_path).code == 2
    assert not list(tmp_path.iterdir())


def test_two_studios_do_not_share_a_folder(tmp_path):
    from pushforward.training.record.claim import claimed

    with claimed(tmp_path / ".studio"):
        assert "is in use by" in refused("studio", at=tmp_path)  # without a word more, as one types it first


def test_without_nicegui_one_sentence_says_what_to_type(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("nicegui", "pushforward.studio"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nicegui", None)
    said = refused("studio", "--no-browser", at=tmp_path)
    assert "the studio needs nicegui; install it:" in said
    assert "python -m pip install 'pushforward[studio]'" in said


def test_the_help_of_the_command_line_imports_no_server():
    source = str(pushforward.__path__[0]).rpartition("pushforward")[0]
    words = (
        f"import sys; sys.path.insert(0, {source!r}); sys.argv = ['pushforward', '--help']\n"
        "from pushforward.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(sorted({'nicegui', 'fastapi', 'torch'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
    assert "studio" in ran.stdout
