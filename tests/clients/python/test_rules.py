"""Rules: words in disguise, masks, time-outs, held messages, reviews after delivery; what holds through a crash and an upgrade."""

from __future__ import annotations

import itertools
import json
import resource
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from doc_pages import blocks
from rawws import WebSocket, instant
from review_handler import FUNCTION
from test_bans import ban, figure, left
from test_chat_modes import MODULES, SEND, extended, join, outcome, room, say, tag
from test_extensions import hears_nothing_else
from test_server_speaks import api, fields, refused
from test_store import LIMITED
from uproar import ACCESS_KEY, ALL_CAPABILITIES, REPOSITORY, SECRET_KEY, Server

CREW = ["SEND_MESSAGE", "DELETE_MESSAGE"]
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def server(reviewing_server):
    return reviewing_server


def rule(kind="words", patterns=("bad",), action="reject", **rest) -> dict:
    patterns = {"patterns": list(patterns)} if kind in ("words", "regex") else {}
    return {"id": rest.pop("id", "r"), "kind": kind, "action": action, **patterns, **rest}


def put(server, *rules: dict) -> str:
    name = f"set{next(NUMBERS)}"
    api(server).put_rule_set(name=name, rules=list(rules))
    return name


def ruled(server, *rules: dict, **tags: str) -> str:
    return room(server, {"rules": put(server, *rules), "state": "off", **tags})


def event(socket: WebSocket, name: str) -> dict:
    return socket.receive_until(lambda frame: frame.get("EventName") == name)[0]["Attributes"]


def hears(socket: WebSocket) -> dict:
    """The next message."""
    return socket.receive_until(lambda frame: frame["Type"] == "MESSAGE")[0]


def test_words_are_refused_however_they_are_disguised(server):
    arn = ruled(server, rule(patterns=["bad*"], allow=["badge"], reason="mind your words"))
    alice, eve = join(server, arn, "alice"), join(server, arn, "eve")
    for text in ("bad", "so BAD!", "b a d", "bàd", "b4d", "b.a.d", "baaad", "bаd", "ｂａｄ", "b\u200bad", "badly"):
        assert outcome(alice, text) == "406 mind your words", text
    hears_nothing_else(eve)
    assert outcome(alice, "a badge") == "said"
    assert hears(eve)["Content"] == "a badge"
    assert outcome(join(server, arn, "mod", CREW), "bad") == "said", "moderators are exempt"
    assert outcome(join(server, arn, "host", role="host"), "bad") == "said"
    api(server).send_message(roomIdentifier=arn, content="bad, says the shop", sender={"userId": "shop"})


def test_a_mask_is_what_everybody_gets(server):
    arn = ruled(server, rule(action="mask"), rule("links", action="mask", allow=["example.org"], id="l"))
    alice, eve = join(server, arn, "alice"), join(server, arn, "eve")
    answer = say(alice, "a b-a-d day, see evil.com and example.org")
    assert answer["Content"] == "a *** day, see *** and example.org"
    assert hears(eve) == answer
    again = api(server).test_rule_set(name=api(server).list_rule_sets()["ruleSets"][0]["name"], content="so bad")
    assert (again["action"], again["content"], again["rule"]) == ("mask", "so ***", "r")
    assert again["matches"] == [{"rule": "r", "action": "mask", "text": "bad"}]


def test_kinds_and_the_strictest(server):
    arn = ruled(
        server,
        rule("regex", [r"\b\d{3}-\d{4}\b"], id="phone", reason="no numbers"),
        rule("caps", id="caps", reason="calm down"),
        rule("repeats", id="repeats", reason="once is enough"),
        rule(patterns=["meh"], action="mask", id="mild"),
    )
    alice = join(server, arn, "alice")
    for text, wanted in [
        ("call 555-1234", "406 no numbers"),
        ("WHY DO YOU SHOUT", "406 calm down"),
        ("aaaaaaaaaaaaaaaa", "406 once is enough"),
        ("meh 555-1234", "406 no numbers"),
        ("fine", "said"),
    ]:
        assert outcome(alice, text) == wanted
    assert say(alice, "meh")["Content"] == "***"


def test_a_time_out_and_a_shadow(server):
    arn = ruled(server, rule(action="timeout", seconds=3600, reason="out"), rule(patterns=["odd"], action="shadow", id="s"))
    alice, again, eve, mod = (join(server, arn, user) for user in ("alice", "alice", "eve", "eve"))
    mod = join(server, arn, "mod", CREW)
    echo = say(alice, "how odd")
    assert echo["Content"] == "how odd" and hears(again) == echo
    hears_nothing_else(eve)
    assert outcome(alice, "bad") == "406 out"
    told = event(mod, "uproar:ban")
    assert (told["UserId"], told["Mode"], told["Reason"], told["By"]) == ("alice", "timeout", "out", "uproar:rules")
    while not (held := outcome(again)).startswith("403 timed out"):
        print("not yet", held)
    assert 3000 < left(alice) <= 3600
    assert figure(server, 'bans_total{mode="timeout",source="rule"}') >= 1


def test_a_rule_times_no_shadow_out(server):
    """Goal: a shadow with an end stays one when a rule would time its user out for longer, in the room or in all."""
    arn = ruled(server, rule(action="timeout", seconds=600, reason="out"))
    client = api(server)
    for user, where in (("shady", {"roomIdentifier": arn}), ("everywhere", {})):
        client.create_ban(userId=user, mode="shadow", seconds=60, **where)
    eve, mod = join(server, arn, "eve"), join(server, arn, "mod", CREW)
    shadows = [join(server, arn, user) for user in ("shady", "everywhere")]
    for socket in (*shadows, eve):
        assert outcome(socket, "bad") == "406 out"
    # That of the last one is made, so those of the others were considered.
    assert event(mod, "uproar:ban")["UserId"] == "eve"
    listed = {one["userId"]: one for one in client.list_bans(roomIdentifier=arn)["bans"]}
    assert (set(listed), listed["shady"]["mode"]) == ({"shady", "eve"}, "shadow")
    for socket in shadows:
        assert outcome(socket, "hm") == "said"
    client.delete_ban(userId="everywhere")


@pytest.mark.parametrize("by", ["member", "slash", "api"])
def test_a_held_message_waits_for_a_moderator(server, by):
    arn = ruled(server, rule(action="hold"), commands="slash")
    name = server.boto_cached.list_tags_for_resource(resourceArn=arn)["tags"]["uproar:rules"]
    alice, eve, mod = join(server, arn, "alice"), join(server, arn, "eve"), join(server, arn, "mod", CREW)
    for decision, result in (("allow", "allowed"), ("deny", "denied")):
        echo = say(alice, "bad or not?")
        assert (echo["Type"], echo["Attributes"]["uproar:held"]) == ("MESSAGE", "1")
        told = event(mod, "uproar:held")
        assert told == {
            "MessageId": echo["Id"], "UserId": "alice", "Content": "bad or not?", "Rule": f"{name}/r", "Seconds": "120",
        }
        assert figure(server, "held") == 1
        hears_nothing_else(eve)
        if by == "member":
            assert mod.say("x", "d", Attributes={"uproar:do": decision, "uproar:id": echo["Id"]})
        elif by == "slash":
            assert mod.say(f"/{decision} {echo['Id']}", "d")
        else:
            done = api(server).decide_held(roomIdentifier=arn, messageId=echo["Id"], decision=decision)
            assert done["messageId"] == echo["Id"] and ("sendTime" in done) == (decision == "allow")
        if by != "api":
            answer = mod.receive_until(lambda frame: frame.get("RequestId") == "d")[0]
            assert answer["Content"] == f"{echo['Id']} is {result}", answer
        told = event(alice, "uproar:decided")
        assert (told["MessageId"], told["Result"], told["By"]) == (echo["Id"], result, "" if by == "api" else "mod")
        if decision == "allow":
            heard = hears(eve)
            assert (heard["Id"], heard["Content"], heard["Sender"]) == (echo["Id"], "bad or not?", echo["Sender"])
            assert not heard["Attributes"] and instant(heard["SendTime"]) >= instant(echo["SendTime"])
        else:
            hears_nothing_else(eve)
        # Twice is once.
        status, code, _ = refused(api(server).decide_held, roomIdentifier=arn, messageId=echo["Id"], decision="allow")
        assert (status, code) == (404, "ResourceNotFoundException")
        assert mod.say("x", "e", Attributes={"uproar:do": "allow", "uproar:id": echo["Id"]})
        assert mod.receive_until(lambda frame: frame.get("RequestId") == "e")[0]["ErrorCode"] == 404
        assert figure(server, "held") == 0


@pytest.mark.parametrize("memory", [{}, {"history": "50"}])
def test_what_is_taken_back_is_never_said(server, memory):
    """Goal: a held message that is deleted, or whose user is erased or banned with a purge, waits no more."""
    arn = ruled(server, rule(action="hold"), **memory)
    client = api(server)
    ways = {
        "deleted": lambda user, held: client.delete_messages(roomIdentifier=arn, ids=[held]),
        "erased": lambda user, held: client.erase_user(userId=user),
        "purged": lambda user, held: client.create_ban(userId=user, mode="timeout", seconds=60, purge=True),
    }
    for user, take_back in ways.items():
        held = say(join(server, arn, user), "bad of it")["Id"]
        take_back(user, held)
        status, code, _ = refused(client.decide_held, roomIdentifier=arn, messageId=held, decision="allow")
        assert (status, code) == (404, "ResourceNotFoundException"), user


SLOW = {"slow": "3600"}
ROLES_ONLY = {"talk": "sub+vip"}
EMOTES = {"emotes": "only"}


@pytest.mark.parametrize("tags, texts", [
    (SLOW, ["one", "two"]),
    ({"unique": "user:600"}, ["one", "one", "two"]),
    ({"unique": "room:600"}, ["one", "two", "one"]),
    (ROLES_ONLY, ["one"]),
    ({"talk": "none"}, ["one"]),
    (EMOTES, ["one", ":wave:"]),
    ({}, ["bad one", "so meh, really", "fine"]),
    ({"kick": "60", **SLOW}, ["bad one", "so meh, really", "fine"]),
], ids=str)
def test_a_shadow_is_judged_as_others_are(server, tags, texts):
    """Goal: nobody can tell from answers that a shadow ban is in force: modes, rules and waits are those of others; and nobody
    else hears anything. Method: two rooms alike, the same words of a user under a shadow ban and of one without."""
    answers = []
    for mode in ("shadow", None):
        arn = ruled(server, rule(reason="no"), rule(patterns=["meh"], action="mask", id="m"), **tags)
        bob, mod = join(server, arn, "bob"), join(server, arn, "mod", CREW)
        if mode:
            ban(api(server), arn, "bob", mode)
        told = [say(bob, text) for text in texts]
        answers.append([(one["Type"], one.get("Content"), one.get("ErrorCode"), one.get("ErrorMessage")) for one in told])
        assert mod.say("mark", "mark")
        heard = mod.receive_until(lambda frame: frame.get("RequestId") == "mark")[1]
        said = [frame["Content"] for frame in heard if frame["Type"] == "MESSAGE"]
        assert said == ([] if mode else [one[1] for one in answers[-1] if one[0] == "MESSAGE"])
    waits = lambda told: [str(one).replace("3599", "3600") for one in told]
    assert waits(answers[0]) == waits(answers[1])


def test_what_a_shadow_says_keeps_nobody_from_saying_it(server):
    arn = room(server, {"unique": "room:600", "state": "off"})
    ban(api(server), arn, "bob", "shadow")
    bob, eve = join(server, arn, "bob"), join(server, arn, "eve")
    assert outcome(eve, "seen") == "said"
    assert [outcome(bob, text) for text in ("unseen", "unseen", "seen")] == ["said", "406 repeated message", "406 repeated message"]
    assert outcome(eve, "unseen") == "said"


def test_a_shadow_uses_the_rooms_rate_up(tmp_path):
    """Goal: a shadow meets the room's rate, alone in it too: with as many messages as any user is refused some."""
    with extended(tmp_path, True, quotas="aws") as server:
        arn = server.boto_cached.create_room(maximumMessageRatePerSecond=1)["arn"]
        ban(api(server), arn, "bob", "shadow")
        bobs = [join(server, arn, "bob") for _ in range(4)]
        for number in range(4):
            for at, bob in enumerate(bobs):
                assert bob.say("x", f"{at}.{number}")
        answers = []
        for at, bob in enumerate(bobs):
            # A refusal may come before the echo of what was said before it.
            open_requests = {f"{at}.{number}" for number in range(4)}
            while open_requests:
                answers.append(bob.receive_until(lambda frame: frame.get("RequestId") in open_requests)[0])
                open_requests.remove(answers[-1]["RequestId"])
        assert {one.get("ErrorCode") for one in answers} == {None, 429}


def test_what_is_held_of_a_shadow_is_allowed_for_itself(server):
    arn = ruled(server, rule(action="hold"))
    ban(api(server), arn, "bob", "shadow")
    bob, eve, mod = join(server, arn, "bob"), join(server, arn, "eve"), join(server, arn, "mod", CREW)
    echo = say(bob, "bad")
    assert echo["Attributes"] == {"uproar:held": "1"}
    assert event(mod, "uproar:held")["MessageId"] == echo["Id"]
    done = api(server).decide_held(roomIdentifier=arn, messageId=echo["Id"], decision="allow")
    assert done["messageId"] == echo["Id"]
    heard = bob.receive_until(lambda frame: frame.get("Id") == echo["Id"])[0]
    assert (heard["Type"], heard["Content"], heard["Attributes"]) == ("MESSAGE", "bad", None)
    assert event(mod, "uproar:decided")["Result"] == "allowed"
    hears_nothing_else(eve, mod)
    denied = say(bob, "bad again")
    api(server).decide_held(roomIdentifier=arn, messageId=denied["Id"], decision="deny", reason="no")
    told = bob.receive_until(lambda frame: frame.get("EventName") == "uproar:decided" and frame["Attributes"]["MessageId"] == denied["Id"])[0]
    assert told["Attributes"]["Result"] == "denied"


def test_a_shadow_is_reviewed_as_others_are(server):
    settings = {"messageReviewHandler": {"uri": f"{FUNCTION}mapped", "fallbackResult": "DENY"}}
    arn = room(server, {"state": "off"}, **settings)
    ban(api(server), arn, "bob", "shadow")
    bob, eve = join(server, arn, "bob"), join(server, arn, "eve")
    assert outcome(bob, "deny not here") == "406 not here"
    assert say(bob, "rewrite nicer")["Content"] == "nicer"
    hears_nothing_else(eve)


def test_who_may_decide(server):
    arn = ruled(server, rule(action="hold"))
    alice, eve = join(server, arn, "alice"), join(server, arn, "eve", [*SEND, "DISCONNECT_USER"])
    echo = say(alice, "bad")
    for socket, code in ((alice, 403), (eve, 403)):
        assert socket.say("x", "d", Attributes={"uproar:do": "allow", "uproar:id": echo["Id"]})
        assert socket.receive_until(lambda frame: frame.get("RequestId") == "d")[0]["ErrorCode"] == code
    assert alice.say("x", "h", Attributes={"uproar:held": "1"})
    assert alice.receive_until(lambda frame: frame.get("RequestId") == "h")[0]["ErrorCode"] == 400, "nobody forges it"
    # A purge takes what waits, too.
    api(server).delete_user_messages(roomIdentifier=arn, userId="alice")
    assert refused(api(server).decide_held, roomIdentifier=arn, messageId=echo["Id"], decision="allow")[0] == 404


def test_a_room_holds_so_many_and_no_more(server):
    arn = ruled(server, rule(action="hold", patterns=["x"]))
    alice = join(server, arn, "alice")
    answers = [say(alice, f"x {number}") for number in range(501)]
    assert [answer["Type"] for answer in answers[:500]] == ["MESSAGE"] * 500
    assert answers[500]["ErrorCode"] == 429
    done = api(server).decide_held(roomIdentifier=arn, messageId=answers[499]["Id"], decision="allow")
    assert done["sendTime"]
    assert say(alice, "x again")["Type"] == "MESSAGE"
    api(server).clear_room(roomIdentifier=arn)


@pytest.mark.parametrize("reviewed", [False, True])
def test_what_a_review_denies_afterwards_is_deleted(server, handler, reviewed):
    settings = {"messageReviewHandler": {"uri": f"{FUNCTION}mapped", "fallbackResult": "DENY"}} if reviewed else {}
    arn = room(server, {"after-review": f"{FUNCTION}mapped", "state": "off"}, **settings)
    alice, eve = join(server, arn, "alice"), join(server, arn, "eve")
    assert alice.say("fine", "f")
    if reviewed:
        assert alice.say("rewrite deny later", "d")
    else:
        assert alice.say("deny not here", "d")
    said = [hears(eve) for _ in range(2)]
    gone = event(eve, "aws:DELETE_MESSAGE")
    assert gone["MessageID"] == said[1]["Id"]
    assert gone["Reason"] == ("later" if reviewed else "not here")
    asked = [asked.question for asked in handler.asked if asked.question["MessageId"] == said[1]["Id"]]
    assert asked[-1]["Content"] == said[1]["Content"] and asked[-1]["Sender"]["Ip"] == "127.0.0.1"
    assert figure(server, 'after_reviews_total{result="deny"}') >= 1
    hears_nothing_else(eve)


def test_what_a_back_end_says_is_reviewed_afterwards_too(server):
    """Goal: one message or several, in a room without a handler that decides before; exempt ones are not asked about."""
    arn = room(server, {"after-review": f"{FUNCTION}mapped", "state": "off"})
    eve, shop = join(server, arn, "eve"), {"userId": "shop"}
    api(server).send_message(roomIdentifier=arn, content="deny exempt", sender=shop, exempt=True)
    one = api(server).send_message(roomIdentifier=arn, content="deny one", sender=shop)["id"]
    more = [{"content": content, "sender": shop} for content in ("fine", "deny two")]
    more = [said["id"] for said in api(server).send_messages(roomIdentifier=arn, messages=more)["results"]]
    assert {event(eve, "aws:DELETE_MESSAGE")["MessageID"] for _ in range(2)} == {one, more[1]}
    hears_nothing_else(eve)


def test_a_review_afterwards_that_fails_leaves_the_message(server):
    arn = room(server, {"after-review": f"{FUNCTION}nowhere", "state": "off"})
    alice = join(server, arn, "alice")
    assert outcome(alice, "deny") == "said"
    while figure(server, 'after_reviews_total{result="unconfigured"}') < 1:
        time.sleep(0.05)
    hears_nothing_else(alice)


def test_sets_are_shown_changed_and_removed(server):
    client = api(server)
    arn = ruled(server, rule(reason="one"))
    name = server.boto_cached.list_tags_for_resource(resourceArn=arn)["tags"]["uproar:rules"]
    alice = join(server, arn, "alice")
    assert outcome(alice, "bad") == "406 one"
    before = client.get_rule_set(name=name)
    assert before["rules"] == [rule(reason="one")] and (before["ruleCount"], before["patternCount"]) == (1, 1)
    client.put_rule_set(name=name, rules=[rule(patterns=["worse"], reason="two")])
    assert (outcome(alice, "bad"), outcome(alice, "worse")) == ("said", "406 two")
    after = client.get_rule_set(name=name)
    assert after["createTime"] == before["createTime"] and after["updateTime"] >= before["updateTime"]
    assert client.list_rule_sets()["ruleSets"][0]["name"] == name
    status, code, _ = refused(client.delete_rule_set, name=name)
    assert (status, code) == (409, "ConflictException"), "a room names it"
    tag(server, arn, {"rules": f"{name}+not-there"})
    server.boto_cached.untag_resource(resourceArn=arn, tagKeys=["uproar:rules"])
    assert outcome(alice, "worse") == "said"
    client.delete_rule_set(name=name)
    for call_ in (client.get_rule_set, client.delete_rule_set):
        assert refused(call_, name=name)[0] == 404
    assert refused(client.test_rule_set, name=name, content="x")[0] == 404
    series = f'rule_hits_total{{set="{name}"'
    assert series not in server.metrics(), "its figures are gone with it"


def test_what_is_wrong_is_named(server):
    client = api(server)
    many = [f"w{number}" for number in range(10_001)]
    for rules, names in [
        ([], ["rules"]),
        ([rule(patterns=[])], ["rules.0.patterns"]),
        ([rule(patterns=["ok", "\u200b!"])], ["rules.0.patterns.1"]),
        ([rule(patterns=["*"])], ["rules.0.patterns.0"]),
        ([rule("regex", ["("])], ["rules.0.patterns.0"]),
        ([rule("regex", [".*"])], ["rules.0.patterns.0"]),
        ([rule("regex", ["(a{999}){999}"])], ["rules.0.patterns"]),
        ([rule(action="timeout")], ["rules.0.seconds"]),
        ([rule(kind="mood")], ["rules.0.kind"]),
        ([rule(), rule()], ["rules.1.id"]),
        ([rule() | {"paterns": ["x"]}], ["rules.0.paterns"]),
        ([rule(patterns=many)], ["rules.0.patterns"]),
        ([rule(id=f"r{number}") for number in range(101)], ["rules"]),
    ]:
        # The SDK refuses members that its model lacks: by hand.
        body = {"name": "wrong", "rules": rules}
        status, answer = post(server, "PutRuleSet", body)
        assert (status, [field["name"] for field in answer["fieldList"]]) == (400, names), answer
    for name in ("", "a b", "x" * 33, "a+b"):
        status, code, answer = refused(client.put_rule_set, name=name, rules=[rule()])
        assert (status, fields(answer)) == (400, ["name"]), name
    assert refused(client.get_rule_set, name="wrong")[0] == 404
    status, answer = post(server, "PutRuleSet", {"name": "huge", "rules": [rule(reason="x" * 300_000)]})
    assert status == 413, answer
    broken = b'{"name": "broken", "rules": [{"id": "r", "kind": "words", "patterns": ["\xff"], "action": "reject"}]}'
    assert raw(server, "PutRuleSet", broken)[0] == 400
    lone = b'{"name": "lone", "rules": [{"id": "r", "kind": "words", "patterns": ["x\\ud800"], "action": "reject"}]}'
    assert raw(server, "PutRuleSet", lone)[0] in (200, 400)
    if any(one["name"] == "lone" for one in client.list_rule_sets()["ruleSets"]):
        client.delete_rule_set(name="lone")


def raw(server, operation: str, body: bytes) -> tuple[int, dict]:
    import urllib.error
    import urllib.request

    request = urllib.request.Request(f"{server.control_url}/uproar/v1/{operation}", data=body, headers={
        "content-type": "application/json", "authorization": f"Bearer {ACCESS_KEY}:{SECRET_KEY}",
    })
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def post(server, operation: str, body: dict) -> tuple[int, dict]:
    return raw(server, operation, json.dumps(body).encode())


def test_as_many_words_and_sets_as_may_be(server):
    client = api(server)
    words = [f"wo{number}rd" for number in range(10_000)]
    arn = ruled(server, rule(patterns=words, reason="long list"))
    alice = join(server, arn, "alice")
    assert outcome(alice, f"it is {words[7_777]}.") == "406 long list"
    assert outcome(alice, "it is nothing.") == "said"
    full = {one["name"] for one in pages(client)}
    made = [put(server, rule()) for _ in range(50 - len(full))]
    status, code, _ = refused(client.put_rule_set, name="one-more", rules=[rule()])
    assert (status, code) == (402, "ServiceQuotaExceededException")
    client.put_rule_set(name=made[0], rules=[rule()])
    for name in made:
        client.delete_rule_set(name=name)


def pages(client) -> list[dict]:
    found, token = [], None
    while True:
        page = client.list_rule_sets(maxResults=20, **({"nextToken": token} if token else {}))
        found += page["ruleSets"]
        if not (token := page.get("nextToken")):
            return found


def test_bad_expressions_cost_little(server):
    """Goal: what makes other engines hang takes no time worth telling, with the worst message for it."""
    arn = ruled(server, rule("regex", ["(a+)+$", "(x+x+)+y", r"(\w*a){10}z"], reason="hit"))
    alice = join(server, arn, "alice")
    begun = time.monotonic()
    assert outcome(alice, "a" * 499 + "!") == "said"
    assert outcome(alice, "x" * 500) == "said"
    assert outcome(alice, "a" * 500) == "406 hit"
    print("three messages took", time.monotonic() - begun)
    assert figure(server, 'rule_seconds_bucket{le="+Inf"}') >= 3


def test_rules_and_modes_in_their_order(server):
    """Goal: a mode refuses before rules do, and a refusal prolongs no wait."""
    arn = ruled(server, rule(reason="no"), slow="3600")
    alice, bob = join(server, arn, "alice"), join(server, arn, "bob")
    assert outcome(alice, "bad") == "406 no"
    assert outcome(alice, "good") == "said"
    assert outcome(alice, "bad").startswith("429 slow mode")
    assert outcome(bob, "bad") == "406 no"


def test_an_untagged_room_has_no_rules(server):
    put(server, rule())
    arn = server.boto_cached.create_room()["arn"]
    plain = WebSocket(server.messaging_port, server.token(arn, "alice", SEND))
    assert outcome(plain, "bad") == "said"


def test_sets_and_held_messages_survive(tmp_path):
    """Goal: a set that was acknowledged holds through SIGKILL and an upgrade; what is held is carried by an upgrade, still to be
    decided, and forgotten in a crash."""
    with Server(tmp_path) as server:
        arn = ruled(server, rule(reason="no"), rule(patterns=["odd"], action="hold", id="h"))
        server.kill()
        server.start()
        alice, mod = join(server, arn, "alice"), join(server, arn, "mod", CREW)
        assert outcome(alice, "bad") == "406 no"
        first, second = say(alice, "odd one"), say(alice, "odd two")
        ban(api(server), arn, "sly", "shadow")
        sly = join(server, arn, "sly")
        shadowed = say(sly, "odd three")
        listed = api(server).list_held(roomIdentifier=arn)["messages"]
        server.upgrade()
        assert outcome(alice, "bad") == "406 no"
        assert figure(server, "held") == 3
        carried = api(server).list_held(roomIdentifier=arn)["messages"]
        assert [(one["messageId"], one["rule"]) for one in carried] == [(one["messageId"], one["rule"]) for one in listed]
        assert mod.say("x", "s", Attributes={"uproar:do": "allow", "uproar:id": shadowed["Id"]})
        assert sly.receive_until(lambda frame: frame.get("Id") == shadowed["Id"] and "Content" in frame)[0]["Attributes"] is None
        assert mod.say("x", "d", Attributes={"uproar:do": "allow", "uproar:id": first["Id"]})
        heard, others = mod.receive_until(lambda frame: frame.get("Id") == first["Id"] and frame["Type"] == "MESSAGE")
        assert not [frame for frame in others if frame.get("Content") == "odd three"], "a shadow's is still a shadow's"
        assert (heard["Content"], heard["Sender"]["UserId"]) == ("odd one", "alice")
        assert event(alice, "uproar:decided")["Result"] == "allowed"
        server.kill()
        server.start()
        assert refused(api(server).decide_held, roomIdentifier=arn, messageId=second["Id"], decision="allow")[0] == 404
        assert outcome(join(server, arn, "bob"), "bad") == "406 no"
        assert len(api(server).list_rule_sets()["ruleSets"]) == 1


def test_nothing_waits_in_a_room_without_rules(tmp_path):
    """Goal: what waits when a room's rules are removed is over at once, and is told so; an upgrade brings nothing back. Other
    tags leave it, and so do other rules."""
    with Server(tmp_path) as server:
        arn = ruled(server, rule(patterns=["odd"], action="hold"))
        tag(server, arn, {"rules": put(server, rule(reason="no"))})
        alice, mod = join(server, arn, "alice"), join(server, arn, "mod", CREW)
        assert outcome(alice, "bad") == "406 no"
        tag(server, arn, {"rules": put(server, rule(patterns=["odd"], action="hold"))})
        held = [say(alice, "odd one"), say(alice, "odd two")]
        tag(server, arn, {"rules": put(server, rule(reason="no")), "slow": "1"})
        assert figure(server, "held") == 2
        server.boto_cached.untag_resource(resourceArn=arn, tagKeys=["uproar:rules"])
        for member in (alice, mod):
            told = [event(member, "uproar:decided") for _ in held]
            assert [(one["MessageId"], one["Result"]) for one in told] == [(one["Id"], "expired") for one in held]
        for _ in range(2):
            assert figure(server, "held") == 0 and not api(server).list_held(roomIdentifier=arn)["messages"]
            decide = api(server).decide_held
            assert refused(decide, roomIdentifier=arn, messageId=held[0]["Id"], decision="allow")[0] == 404
            server.upgrade()


def test_without_extensions_there_are_none(tmp_path):
    """Goal: with extensions off a tag is a tag, the operations are unknown, and stored sets do nothing until they are on again."""
    off, on = tmp_path / "off.toml", tmp_path / "on.toml"
    off.write_text("[extensions]\nenabled = false\n")
    on.write_text("[extensions]\nenabled = true\n")
    data = tmp_path / "data"
    with Server(data, extra=("--config", str(on))) as server:
        arn = ruled(server, rule(reason="no"))
    with Server(data, extra=("--config", str(off))) as server:
        assert post(server, "ListRuleSets", {})[0] == 404
        assert outcome(WebSocket(server.messaging_port, server.token(arn, "alice", SEND)), "bad") == "said"
    with Server(data, extra=("--config", str(on))) as server:
        assert outcome(join(server, arn, "alice"), "bad") == "406 no"


def test_the_pages_code_runs(server, tmp_path):
    """Goal: the code of docs/features.md does what it says: the back end's with boto3, the moderator's with the official client."""
    pages = {block.language: block.text for block in blocks(REPOSITORY / "docs" / "features.md") if block.argument == "test_rules.py"}
    assert sorted(pages) == ["js", "python"]
    exec(pages["python"], {"uproar": api(server)})
    arn = room(server, {"rules": "house", "state": "off"})
    alice = join(server, arn, "alice")
    assert outcome(alice, "b a d") == "406 Mind your words"
    (tmp_path / "node_modules").symlink_to(MODULES)
    (tmp_path / "held.mjs").write_text(pages["js"])
    script = tmp_path / "run.mjs"
    script.write_text(
        'import { ChatRoom } from "amazon-ivs-chat-messaging";\n'
        'import { WebSocket } from "ws";\n'
        'import { moderate } from "./held.mjs";\n'
        "globalThis.WebSocket = WebSocket;\n"
        "const [url, token] = process.argv.slice(2);\n"
        "const room = new ChatRoom({ regionOrUrl: url, tokenProvider: async () => ({ token }) });\n"
        "moderate(room, async ({ content, user, allow }) => {\n"
        '  console.log("shown:", user, content);\n'
        "  console.log('shown:', (await allow()).content.slice(13));\n"
        "  room.disconnect();\n"
        "});\n"
        'room.addListener("connect", () => console.log("connected"));\n'
        "room.connect();\n"
    )
    url = f"ws://127.0.0.1:{server.messaging_port}"
    with subprocess.Popen(
        ["node", str(script), url, server.token(arn, "mod", ALL_CAPABILITIES)],
        stdout=subprocess.PIPE, text=True, cwd=tmp_path,
    ) as node:
        while (line := node.stdout.readline()) != "connected\n":
            assert line, "it has ended"
        assert say(alice, "see evil.com")["Attributes"] == {"uproar:held": "1"}
        shown = [line for line in node.stdout.read().splitlines() if line.startswith("shown:")]
        assert shown == ["shown: alice see evil.com", "shown: is allowed"]
    assert hears(alice)["Content"] == "see evil.com"
    tag(server, arn, {"rules": "none"})
    api(server).delete_rule_set(name="house")


def test_a_refused_write_puts_no_rules(tmp_path):
    """Goal: while the disk takes nothing a call fails and puts no set in force; what was acknowledged holds, then and through
    SIGKILL. Method: cap the size of files (RLIMIT_FSIZE) at what the database has, and put sets as large as may be."""
    with Server(tmp_path, wrapper=LIMITED) as server:
        client, pid = api(server), server.process.pid
        arn = ruled(server, rule(reason="first"))
        cap = max((tmp_path / "rooms.redb").stat().st_size, server.log_path.stat().st_size + 65_536)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (cap, resource.RLIM_INFINITY))
        kept, lost = [], []
        for number in range(45):
            name, words = f"fill{number}", [f"{at}y{number}z" for at in range(9_000)]
            try:
                client.put_rule_set(name=name, rules=[rule(patterns=words)])
                kept.append(name)
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
                lost.append(name)
                if len(lost) == 3:
                    break
        assert len(lost) == 3, "the cap did not bite"
        for name in lost:
            assert refused(client.get_rule_set, name=name)[0] == 404
            assert f'rule_hits_total{{set="{name}"' not in server.metrics(), "it is not in force"
        assert outcome(join(server, arn, "alice"), "bad") == "406 first"
        server.kill()
        server.start()
        client = api(server)
        assert {one["name"] for one in pages(client)} == {*kept, server.boto().list_tags_for_resource(resourceArn=arn)["tags"]["uproar:rules"]}
        assert outcome(join(server, arn, "bob"), "bad") == "406 first"
        client.put_rule_set(name=lost[0], rules=[rule()])


def test_moderators_who_come_late_find_what_is_held(server):
    """Goal: what waits is listed, the oldest first, page by page, with all that a moderator needs, and is gone once it is decided."""
    client = api(server)
    arn = ruled(server, rule(action="hold"), rule(patterns=["meh"], action="mask", id="m"))
    assert client.list_held(roomIdentifier=arn)["messages"] == []
    token = server.boto().create_chat_token(roomIdentifier=arn, userId="alice", capabilities=SEND, attributes={"name": "Al"})["token"]
    alice, bob = WebSocket(server.messaging_port, token), join(server, arn, "bob")
    begun, before = time.time(), figure(server, "held")
    assert alice.say("bad, meh", "a", Attributes={"k": "v"})
    first = alice.receive_until(lambda frame: frame.get("RequestId") == "a")[0]
    others = [say(bob, f"bad {number}") for number in range(4)]
    found, token = [], None
    while True:
        page = client.list_held(roomIdentifier=arn, maxResults=2, **({"nextToken": token} if token else {}))
        assert len(page["messages"]) <= 2
        found += page["messages"]
        if not (token := page.get("nextToken")):
            break
    assert [one["messageId"] for one in found] == [first["Id"], *(one["Id"] for one in others)]
    shown = found[0]
    assert (shown["content"], shown["attributes"]) == ("bad, ***", {"k": "v"})
    assert shown["sender"] == {"userId": "alice", "attributes": {"name": "Al"}}
    assert shown["rule"].endswith("/r")
    assert begun - 1 < shown["sendTime"].timestamp() < time.time() + 1
    assert (shown["endsAt"] - shown["sendTime"]).total_seconds() == 120
    client.decide_held(roomIdentifier=arn, messageId=first["Id"], decision="deny")
    client.delete_user_messages(roomIdentifier=arn, userId="bob")
    assert client.list_held(roomIdentifier=arn)["messages"] == []
    assert figure(server, "held") <= before, "the gauge is of now"
    for arguments, name in (({"maxResults": 0}, "maxResults"), ({"maxResults": 51}, "maxResults"), ({"nextToken": "x"}, "nextToken")):
        status, _, answer = refused(client.list_held, roomIdentifier=arn, **arguments)
        assert (status, fields(answer)) == (400, [name])
    assert refused(client.list_held, roomIdentifier=arn[:-4] + "zzzz")[0] == 404
