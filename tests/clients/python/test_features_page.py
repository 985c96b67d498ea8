"""Code of docs/features.md that belongs to no suite of a feature, run as it stands there."""

from __future__ import annotations

from doc_pages import blocks
from review_handler import FUNCTION, ReviewHandler
from test_server_speaks import api
from test_tallies import join, room
from uproar import REPOSITORY, Server

PAGE = REPOSITORY / "docs" / "features.md"


def test_the_page_reviews_purges_and_shows_what_was_done(tmp_path, capsys):
    """Method: one room, one server, the blocks in their order. What the shop says begins with the word that has this handler deny
    it."""
    review, purge, audit = [block.text for block in blocks(PAGE) if block.argument == "test_features_page.py"]
    handler = ReviewHandler()
    file = tmp_path / "uproar.toml"
    file.write_text(f'[review]\nfunctions = ["{FUNCTION}model={handler.url}"]\n')
    with Server(extra=("--config", str(file))) as server:
        arn = room(server, {"uproar:history": "50"})
        names = {"uproar": api(server), "ivschat": server.boto_cached, "room": arn}
        eve, bob = join(server, arn, "eve"), join(server, arn, "bob")

        def run(block: str) -> str:
            exec(compile(block, str(PAGE), "exec"), names)
            return capsys.readouterr().out

        run(review.replace("Buy followers here", "deny no adverts"))
        gone, _ = eve.receive_until(lambda frame: frame.get("EventName") == "aws:DELETE_MESSAGE")
        assert gone["Attributes"]["Reason"] == "no adverts"
        for number in range(3):
            assert bob.say(f"hello {number}", str(number))
            bob.receive_until(lambda frame, number=number: frame.get("Content") == f"hello {number}")
        assert "3 messages of bob are gone" in run(purge)
        actions = [line.split()[3] for line in run(audit).splitlines()]
    handler.close()
    assert actions[-2:] == ["DeleteUserMessages", "ClearRoom"], actions
