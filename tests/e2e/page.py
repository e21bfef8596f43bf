#!/usr/bin/env python3
"""End to end: the chat page in a headless Chromium, against a server of scripted answers that serves src/web.

Usage: page.py SOLVENT [--url URL [--key KEY]] [--shots FOLDER] [--only NAME]. SOLVENT is not run: the server here
stands for it. With --url only sending, streaming and stopping are
tested, against the server there. --shots takes pictures for a person to look at. Every test ends with: no message on
the console, nothing that the content security policy had to stop, no request to another origin. Prints a line a
test, then "N passed, N failed". Needs chromium, chromium-driver and python3-selenium of Debian.
"""
import argparse
import json
import os
import queue
import sys
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../support"))
from browser import TIMEOUT, Keys, Page, Server  # noqa: E402
from selenium.common.exceptions import WebDriverException  # noqa: E402

TESTS = []


def test(f):
    TESTS.append(f)
    return f


# ---- Sending, streaming, stopping: against any server ----


def basic_send(page, server):
    page.send("Say hello.")
    assert page.finished(), "an empty answer"
    assert page.text(".user .body") == ["Say hello."]
    (stats,) = page.text(".stats")
    assert " in" in stats and " out" in stats and "first after" in stats, stats


def basic_stream(page, server):
    page.js("""window.sizes = new Set(); new MutationObserver(() =>
        sizes.add(document.querySelector('.md')?.textContent.length || 0)).observe(document.getElementById('log'),
        {subtree: true, childList: true, characterData: true})""")
    page.send("Count from one to thirty in words.")
    page.finished()
    sizes = page.js("return [...sizes]")
    assert len(sizes) > 3 and sizes == sorted(sizes), sizes


def basic_stop(page, server):
    page.send("Write a long story about a lighthouse.")
    page.wait("return document.querySelector('.md')?.textContent.length > 10")
    page.press(Keys.ESCAPE)
    assert page.finished()
    assert "Stopped" in page.text(".stats")[0]
    page.send("Say hello.")
    page.finished(2)


# ---- Tests ----


@test
def what_must_not_happen_is_seen(page, server):
    page.js("""document.body.setAttribute('style', 'color: red'); console.error('planted');
        fetch('http://127.0.0.2:9/x').catch(() => {})""")
    seen = []
    until = time.monotonic() + TIMEOUT
    while time.monotonic() < until and not ("planted" in str(seen) and "127.0.0.2" in str(seen)
                                            and "style-src" in str(seen)):
        seen += page.watched()
    assert "planted" in str(seen) and "policy: connect-src http://127.0.0.2" in str(seen), seen
    assert "policy: style-src" in str(seen), seen


@test
def sends_and_shows_the_answer(page, server):
    script = server.will("Hello", ", ", "world.", gate=True)
    page.one("#prompt").send_keys("One", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two", Keys.ENTER)
    script.go()
    page.wait("return document.querySelector('.md')?.textContent === 'Hello'")  # pieces read at once have no rate
    script.go()
    script.go()
    assert page.finished() == "Hello, world."
    assert page.text(".user .body") == ["One\ntwo"]
    (body,) = server.asked
    assert body == {"model": "tiny", "stream": True, "stream_options": {"include_usage": True},
                    "messages": [{"role": "user", "content": "One\ntwo"}],
                    "temperature": 0.8, "top_p": 0.95, "max_tokens": 2048}, body
    (stats,) = page.text(".stats")
    for part in "tokens/s", "first after 0.", "12 in (5 cached)", "3 out":
        assert part in stats, stats
    assert page.js("return document.title") == "One – Solvent"
    server.will("More.")
    page.send("And?")
    assert page.finished(2) == "More."
    assert [m["content"] for m in server.asked[1]["messages"]] == ["One\ntwo", "Hello, world.", "And?"]


@test
def text_appears_piece_by_piece(page, server):
    script = server.will("Bold **wo", "rd** and", " `code", "` end.", gate=True)
    page.send("Go")
    page.wait("return document.querySelector('.assistant .waiting')")
    for shown, bold in ("Bold wo", "wo"), ("Bold word and", "word"), ("Bold word and code", "word"):
        script.go()
        page.wait("return document.querySelector('.md')?.textContent === arguments[0]", shown)
        assert page.text(".md strong") == [bold]
        assert page.one(".assistant").get_attribute("aria-busy") == "true"
    script.go()
    assert page.finished() == "Bold word and code end."
    assert page.text(".md code") == ["code"]


@test
def a_stream_may_be_cut_anywhere(page, server):
    server.will("Grüße, ", "𝄞 und ", "日本", chop=True)
    page.send("Q")
    assert page.finished() == "Grüße, 𝄞 und 日本"
    assert "3 out" in page.text(".stats")[0]


@test
def stops_and_keeps_what_came(page, server):
    for n, stop in enumerate((lambda: page.click("#send"), lambda: page.press(Keys.ESCAPE))):
        script = server.will("Once upon", " a time", gate=True)
        page.send("A story")
        page.wait("return document.querySelector('#send').title === 'Stop'")
        script.go()
        page.wait("return document.querySelectorAll('.md')[arguments[0]]?.textContent === 'Once upon'", n)
        page.one("#prompt").send_keys("not yet", Keys.ENTER)
        assert len(server.asked) == n + 1, "Enter sends nothing while an answer comes in"
        stop()
        assert page.finished(n + 1) == "Once upon"
        assert script.gone.wait(TIMEOUT), "the connection stayed open"
        assert "Stopped" in page.text(".stats")[n] and "~1 out" in page.text(".stats")[n]
        assert page.one("#prompt").get_attribute("value") == "not yet"
        page.one("#prompt").clear()


@test
def retries(page, server):
    page.chat(server, ("Q1", "first"), ("Q2", "second"))
    server.will("other")
    page.all(page.button("Retry", ".assistant"))[1].click()
    page.shows("other")
    assert page.finished(2) == "other"
    assert server.asked[1] == server.asked[2]
    script = server.will("slow", "er", gate=True)
    page.all(page.button("Retry", ".assistant"))[0].click()
    page.shows("removed")
    script.go()
    page.shows("slow")
    page.click("#toast button")
    page.wait("return document.querySelectorAll('.message').length === 4")
    assert page.finished(2) == "other"
    assert page.text(".assistant .body")[0] == "first"


@test
def a_new_question_ends_the_old_answer(page, server):
    old, new = server.will("old", "er", gate=True), server.will("new", "er", gate=True)
    page.send("Q")
    old.go()
    page.shows("old")
    page.click(page.button("Edit", ".user"))
    page.one(".edit textarea").send_keys("!", Keys.ENTER)
    new.go()
    page.shows("new")
    assert old.gone.wait(TIMEOUT)
    assert page.one("#send").get_attribute("title") == "Stop"
    new.go()
    assert page.finished() == "newer"
    assert page.text(".message .body") == ["Q!", "newer"]


@test
def edits_and_goes_on_from_there(page, server):
    page.chat(server, ("Q1", "A1"), ("Q2", "A2"), ("Q3", "A3"))
    page.all(page.button("Edit", ".user"))[1].click()
    area = page.one(".edit textarea")
    assert area.get_attribute("value") == "Q2"
    area.send_keys(" changed")
    server.will("A2 anew")
    area.send_keys(Keys.ENTER)
    page.shows("A2 anew")
    assert page.finished(2) == "A2 anew"
    assert [m["content"] for m in server.asked[-1]["messages"]] == ["Q1", "A1", "Q2 changed"]
    page.click("#toast button")
    page.wait("return document.querySelectorAll('.assistant').length === 3")
    assert page.text(".message .body") == ["Q1", "A1", "Q2", "A2", "Q3", "A3"]
    page.all(page.button("Edit", ".assistant"))[0].click()
    page.one(".edit textarea").send_keys(Keys.ESCAPE)
    assert page.text(".assistant .body")[0] == "A1" and page.focus() == "Edit"
    page.all(page.button("Edit", ".assistant"))[0].click()
    page.one(".edit textarea").send_keys("!", Keys.CONTROL, Keys.ENTER)
    page.wait("return document.querySelectorAll('.message').length === 2")
    assert page.text(".message .body") == ["Q1", "A1!"]


MARKDOWN = """# Title *one*

A paragraph with **bold**, *italic*, ***both***, ~~gone~~, `a * b`, snake_case_name, 2 * 3 * 4
and a [link](https://example.org/a_(b) "t"), bare https://example.org/x.

- one
  - deep
    1. deeper
- two

  more of two

3. three
4. four
   ```py
   if x:

       y()
   ```

> quoted **text**
> - in a list

| Left | Right | Mid |
|:-----|------:|:---:|
| a | `b` | **c** |
| d \\| e | f |

---
```c
int main(void) { return 0; } /* done */
```
Last."""


@test
def markdown(page, server):
    page.chat(server, ("Q", MARKDOWN))
    html = page.js("""const md = document.querySelector('.md').cloneNode(true);
        md.querySelectorAll('button').forEach(b => b.remove()); return md.innerHTML""")
    for part in (
            "<h2>Title <em>one</em></h2>",
            "<strong>bold</strong>, <em>italic</em>, <em><strong>both</strong></em>, <del>gone</del>, "
            "<code>a * b</code>, snake_case_name, 2 * 3 * 4<br>and a ",
            '<a href="https://example.org/a_(b)" target="_blank" rel="noopener noreferrer">link</a>',
            '<a href="https://example.org/x" target="_blank" rel="noopener noreferrer">https://example.org/x</a>.</p>',
            '<ul class="loose"><li><p>one</p><ul><li><p>deep</p><ol start="1"><li><p>deeper</p></li>'
            "</ol></li></ul></li><li><p>two</p><p>more of two</p></li></ul>",
            '<ol start="3" class="loose"><li><p>three</p></li><li><p>four</p><div class="code">',
            '<span class="t-word">if</span> x:\n\n    y()</code>',
            '<blockquote><p>quoted <strong>text</strong></p><ul><li><p>in a list</p></li></ul></blockquote>',
            '<th class="left">Left</th><th class="right">Right</th><th class="center">Mid</th>',
            '<td class="left">a</td><td class="right"><code>b</code></td><td class="center"><strong>c</strong></td>',
            '<td class="left">d | e</td><td class="right">f</td><td class="center"></td>',
            '<hr><div class="code"><div class="code-head"><span>c</span></div>',
            '<span class="t-word">return</span> <span class="t-number">0</span>; } <span class="t-comment">/* done */',
            "<p>Last.</p>"):
        assert part in html, (part, html)


HOSTILE = """<img src=x onerror="window.hacked=1"> <script>window.hacked=1</script> <b onclick=1>b</b>

[a](javascript:window.hacked=1) [b](JaVaScRiPt:1) [c](data:text/html,x) [d](//evil.example) [e](/v1/models) ![f](x)
[g](https://example.org" onclick="1) [h](https://e.org/"x) <a href="https://evil.example">z</a> &lt;img&gt;

# <svg onload=1>

| <img src=x onerror=1> |
|---|
| [x](vbscript:1) |

```"><img src=x onerror=window.hacked=1>
</code></pre><img src=x onerror=window.hacked=1>"""


@test
def hostile_text_stays_text(page, server):
    page.chat(server, ("<img src=x onerror=window.hacked=1>", HOSTILE))
    assert page.js("return window.hacked") is None
    tags = set(page.js("return [...document.querySelectorAll('.message .body *')].map(e => e.tagName.toLowerCase())"))
    assert tags <= set("p br h2 div table thead tbody tr th td span button svg use pre code a details summary".split())
    assert not page.js("""return [...document.querySelectorAll('.message *')].some(e => e.getAttributeNames().some(
        n => n.startsWith('on') || n === 'style' || n === 'src'))""")
    links = page.js("return [...document.querySelectorAll('.md a')].map(a => [a.href, a.rel])")
    assert all(url.startswith("https://e") and rel == "noopener noreferrer" for url, rel in links), links
    assert "[a](javascript:window.hacked=1)" in page.text(".md")[0]
    assert "</code></pre><img src=x" in page.text(".md pre")[0], "an unclosed fence is code to the end"


# Any text, streamed in any pieces, looks at its end as if it had come at once; what is finished is not made again; the
# worst texts take no time that a person would notice (the script's time limit stands for that).
STREAMED = r"""
const [texts, done] = arguments, wrong = [];
import('/web/markdown.js').then(({Markdown}) => {
    const whole = text => {
        const root = document.createElement('div');
        new Markdown(root).update(text, false);
        return root;
    };
    let seed = 7;
    const random = n => (seed = (seed * 1103515245 + 12345) % 2147483648) % n;
    for (const text of texts) {
        const root = document.createElement('div'), view = new Markdown(root);
        for (let at = 0; at < text.length; at += 1 + random(3)) view.update(text.slice(0, at), true);
        view.update(text, false);
        if (root.innerHTML !== whole(text).innerHTML) wrong.push([text, root.innerHTML, whole(text).innerHTML]);
    }
    const root = document.createElement('div'), view = new Markdown(root);
    view.update('# A\n\nB **c**\n\n```js\nx', true);
    const nodes = [...root.children], code = root.querySelector('code').firstChild;
    view.update('# A\n\nB **c**\n\n```js\nx = 1;\ny', true);
    if (nodes.some((n, i) => root.children[i] !== n)) wrong.push('finished blocks were made again');
    if (root.querySelector('code').firstChild !== code || code.data !== 'x = 1;\ny') wrong.push('code was made again');
    view.update('# A\n\nB **c**\n\n```js\nx = 1;\ny\n```\n\n- a\n- b', true);
    const item = root.querySelector('li');
    view.update('# A\n\nB **c**\n\n```js\nx = 1;\ny\n```\n\n- a\n- b\n- c', true);
    if (root.querySelector('li') !== item || root.querySelectorAll('li').length !== 3) wrong.push('an item, again');
    const deepest = node => {
        let most = 0;
        for (const e of node.querySelectorAll('*')) {
            let n = 0;
            for (let p = e; p !== node; p = p.parentNode) n++;
            most = Math.max(most, n);
        }
        return most;
    };
    for (const piece of ['> ', '- ', '*a ', '**a ', '_a', '`', '` ``', '[', '[a](', '![[', '~~', '| ', '|-', '#', '1. ',
        '```\n', '\\', 'https://', '(', '<br>', ' ', '- - x', '>\n', '* \n\n', '"', '/*', '    - a\n', '[a](b"',
        '_*', ':-|'])
        for (const open of [true, false]) {
            const root = document.createElement('div');
            new Markdown(root).update(piece.repeat(20000), open);
            if (piece.length < 8 && deepest(root) > 60) wrong.push('deep: ' + piece);
        }
    done(wrong);
}, e => done([String(e)]));
"""


@test
def markdown_does_not_depend_on_the_pieces(page, server):
    bits = ["a", "b c", " ", "\n", "\n\n", "*", "**", "_", "`", "```", "\n```py\n", "\n- ", "\n  - ", "\n1. ", "\n> ",
            "\n# ", "|", "\n| a | b |\n", "|--|:-:|\n", "[x](https://a.b/c)", "[", "](", ")", "\\", "~~", "---",
            "\n---\n", "<b>", "é𝄞", "https://a.b/c.", "2", ".", "    "]
    seed, texts = 1, [MARKDOWN, HOSTILE]
    for _ in range(400):
        text = ""
        for _ in range(14):
            seed = (seed * 6364136223846793005 + 1442695040888963407) % 2**64
            text += bits[(seed >> 33) % len(bits)]
        texts.append(text)
    wrong = page.driver.execute_async_script(STREAMED, texts)
    assert not wrong, wrong[:3]


@test
def reasoning_is_folded_away(page, server):
    script = server.will("<thi", "nk>Let me see", ".</think>\n\nForty-", "two.", gate=True)
    page.send("Q")
    script.go()
    script.go()
    page.wait("return document.querySelector('.think:not([hidden])')")
    assert page.text(".md") == [""]
    script.go(2)
    page.finished()
    assert page.text(".md") == ["Forty-two."] and page.js("return !document.querySelector('.think').open")


@test
def copies(page, server):
    page.chat(server, ("Q", "Look:\n\n```py\nprint(1)  # one\n```\n\nand **that**."))
    for button, text in (page.button("Copy code"), "print(1)  # one"), \
            (page.button("Copy", ".assistant .foot"), "Look:\n\n```py\nprint(1)  # one\n```\n\nand **that**."):
        page.click(button)
        page.wait("return document.querySelector('#said').textContent === 'Copied'")
        got = page.driver.execute_async_script(
            "const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(String(e)))")
        assert got == text, got
        page.js("document.querySelector('#said').textContent = ''")
    page.js("Object.defineProperty(navigator, 'clipboard', {value: undefined})")  # as on a plain HTTP address
    page.js("document.addEventListener('copy', () => { window.copied = String(document.activeElement.value) })")
    page.click(page.button("Copy code"))
    page.wait("return window.copied === 'print(1)  # one'")


@test
def settings_reach_the_request(page, server):
    page.click("#settings-open")
    page.one("#system").send_keys("Be brief.")
    page.one("#temperature").send_keys(Keys.HOME)
    page.one("#top_p").send_keys(Keys.ARROW_LEFT)
    assert page.text("output") == ["0.00", "0.90"]
    for name, value in ("max_tokens", "64"), ("seed", "42"):
        page.one("#" + name).send_keys(Keys.CONTROL, "a", Keys.NULL, value)
    page.press(Keys.ESCAPE)
    page.js("const m = document.querySelector('#model'); m.value = 'large'; m.dispatchEvent(new Event('change'))")
    page.reload()
    page.chat(server, ("Q", "A"))
    body = server.asked[0]
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}, body
    assert [body[k] for k in ("model", "temperature", "top_p", "max_tokens", "seed")] == ["large", 0, 0.9, 64, 42], body
    page.click("#settings-open")
    page.one("#max_tokens").send_keys(Keys.CONTROL, "a", Keys.NULL, "99999999", Keys.TAB)
    assert page.one("#max_tokens").get_attribute("value") == "32768"
    page.click("#reset")
    page.click("#settings .main")
    server.will("B")
    page.send("Q")
    page.finished(2)
    body = server.asked[1]
    assert [body.get(k) for k in ("temperature", "top_p", "max_tokens", "seed")] == [0.8, 0.95, 2048, None], body
    assert body["messages"][0]["role"] == "user"


def refused(page):
    """Chromium itself writes each failed request to the console: these are expected, anything else is not."""
    return [w for w in page.watched() if "Failed to load resource" not in w]


@test
def asks_for_a_key(page, server):
    server.key = "sk-one"
    page.reload()
    page.wait("return document.querySelector('#ask-key[open]')")
    page.press("sk-wrong", Keys.ENTER)
    page.shows("refused the key")
    page.press("sk-one", Keys.ENTER)
    page.wait("return document.querySelector('#model option')")
    page.chat(server, ("Q", "A"))
    assert "sk-" not in page.js("return JSON.stringify(localStorage)")
    page.reload()
    page.wait("return document.querySelector('#ask-key[open]')")
    page.click("#remember")
    page.one("#key").send_keys("sk-one", Keys.ENTER)
    page.wait("return document.querySelector('#model option')")
    page.reload()
    page.wait("return document.querySelector('#model option')")
    server.key = "sk-two"
    page.send("Again")
    page.shows("refused the key")
    page.click("#key-cancel")
    page.shows("Incorrect API key provided.")
    server.will("At last")
    page.click(".error button")
    page.wait("return document.querySelector('#ask-key[open]')")
    page.click("#remember")
    page.one("#key").send_keys("sk-two", Keys.ENTER)
    assert page.finished(2) == "At last"
    assert "sk-" not in page.js("return JSON.stringify(localStorage)")
    assert len(server.asked) == 2
    assert not refused(page)


@test
def errors_are_one_line_and_can_be_retried(page, server):
    for n, (script, says) in enumerate((
            (dict(status=429, error="The queue\nis full.", headers=[("Retry-After", "3")]),
             "The queue is full. Try again in 3 s."),
            (dict(status=0), "The server cannot be reached."),
            (dict(error="The model\nfailed."), "The model failed."),
            (dict(end=None), "The answer broke off: the connection was closed."))):
        pieces = ["Partial"] if n > 1 else []
        server.will(*pieces, **script)
        page.send(f"Q{n}")
        page.wait("return document.querySelector('.error')")
        assert page.text(".error span") == [says]
        assert page.text(".assistant .body")[-1] == "".join(pieces)
        if n == 3:
            page.reload()
            assert page.text(".error span") == [says] and page.text(".assistant .body")[-1] == "Partial"
        server.will("Good")
        page.click(".error button")
        page.wait("return !document.querySelector('.error')")
        assert page.finished(n + 1) == "Good"
    server.will(status=500, error="Broken.")
    page.send("first half")
    page.wait("return document.querySelector('.error')")
    server.will("Both")
    page.send("second half")
    page.finished(6)
    assert server.asked[-1]["messages"][-1]["content"] == "first half\n\nsecond half"
    assert not refused(page)


@test
def conversations_survive(page, server):
    page.chat(server, ("Question one", "A1"))
    page.click("#new")
    page.chat(server, ("Question two", "A2"))
    page.reload()
    assert page.text("#chats .open") == ["Question two", "Question one"]
    assert page.text(".message .body") == ["Question two", "A2"]
    page.all("#chats .open")[1].click()
    assert page.text(".message .body") == ["Question one", "A1"]
    page.click(page.button("Rename", "#chats .here"))
    page.press("My *name*", Keys.ENTER)
    assert page.text("#chats .open")[1] == "My *name*" and page.text("h1") == ["My *name*"]
    page.click(page.button("Export", "#chats .here"))
    page.click("#export-all")
    one = page.downloaded("solvent-My-name-.json")
    assert [m["content"] for m in one["messages"]] == ["Question one", "A1"]
    assert len(page.downloaded("solvent-conversations.json")) == 2
    page.click(page.button("Delete", "#chats .here"))
    assert page.text("#chats .open") == ["Question two"] and not page.all(".message")
    page.click("#toast button")
    assert page.text(".message .body") == ["Question one", "A1"]
    page.click(page.button("Delete", "#chats .here"))
    page.reload()
    assert page.text("#chats .open") == ["Question two"]
    bad = {"id": [], "title": {}, "messages": [1, None, {"role": 3}, {
        "role": "assistant", "content": "odd", "stats": {"rate": "fast", "first": {}}, "note": [1], "error": 7}]}
    page.js("localStorage.setItem('solvent.chat.bad', arguments[0]); localStorage.setItem('solvent.chat.no', '{');"
            "localStorage.setItem('solvent.settings', '[]'); location.hash = 'bad'", json.dumps(bad))
    page.reload()
    assert page.text("#chats .open")[0] == "Question two" and page.text(".message .body") == ["odd"]


@test
def answers_go_on_in_other_conversations(page, server):
    script = server.will("slow", " answer", gate=True)
    page.send("Q1")
    script.go()
    page.shows("slow")
    page.click("#new")
    page.chat(server, ("Q2", "A2"))
    page.all("#chats .open")[1].click()
    assert page.text(".message .body") == ["Q1", "slow"] and page.one("#send").get_attribute("title") == "Stop"
    script.go()
    assert page.finished() == "slow answer"


@test
def a_full_browser_is_said(page, server):
    page.chat(server, ("Old", "A"))
    page.js("localStorage.setItem('solvent.chat.big', JSON.stringify({title: 'Big', messages: ["
            "{role: 'user', content: 'x'.repeat(4 << 20)}]}))")
    page.reload()
    page.click("#new")
    server.will("B")
    page.send("New")
    page.shows("no room left")
    assert page.finished() == "B"
    assert set(page.text("#chats .open")) == {"Old", "New", "Big"}


def tab_to(page, name):
    for _ in range(40):
        page.press(Keys.TAB)
        if page.focus() == name:
            style = "const s = getComputedStyle(document.activeElement); return [s.outlineStyle, s.outlineWidth]"
            outline = page.js(style)
            assert outline == ["solid", "2px"] or name == "prompt", (name, outline)  # that one's box shows it
            return
    raise AssertionError("no way by keyboard to " + name)


@test
def works_by_keyboard_alone(page, server):
    page.js("document.activeElement.blur()")
    page.press(Keys.TAB)
    assert page.text(".skip:focus") == ["Skip to the message box"]
    page.press(Keys.ENTER)
    assert page.focus() == "prompt"
    server.will("Answer")
    page.press("Q", Keys.ENTER)
    page.finished()
    assert page.focus() == "prompt"
    tab_to(page, "new")
    tab_to(page, "Rename")
    page.press(Keys.ENTER, "Named", Keys.ENTER)
    assert page.text("#chats .open") == ["Named"]
    tab_to(page, "settings-open")
    page.press(Keys.ENTER)
    assert page.js("return document.querySelector('#settings').open")
    page.press(Keys.ESCAPE)
    assert page.focus() == "settings-open"
    tab_to(page, "scroll")
    tab_to(page, "Copy")
    tab_to(page, "Edit")
    page.press(Keys.ENTER, Keys.ESCAPE)
    assert page.focus() == "Edit"
    tab_to(page, "Retry")
    server.will("Again")
    page.press(Keys.ENTER)
    page.shows("Again")
    tab_to(page, "prompt")


@test
def every_control_has_a_name_and_every_id_is_one(page, server):
    page.chat(server, ("Q", MARKDOWN))
    assert page.js("""const all = 'button, input, select, textarea, dialog, [tabindex]';
        return [...document.querySelectorAll(all)].filter(e => !(e.ariaLabel || e.textContent.trim()
            || e.labels?.length || e.getAttribute('aria-labelledby'))).map(e => e.outerHTML)""") == []
    assert page.js("""const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
        const refer = ['for', 'aria-describedby', 'aria-controls', 'aria-labelledby'];
        return ids.length === new Set(ids).size && refer.every(n =>
            [...document.querySelectorAll(`[${n}]`)].every(e => ids.includes(e.getAttribute(n))))""")


@test
def fits_a_phone(page, server):
    page.phone()
    page.load()
    wide = "| a | b | c | d |\n|---|---|---|---|\n" + "| " + "word " * 8 + "| x | y | " + "w" * 60 + " |\n"
    page.chat(server, ("w" * 200, "w" * 200 + "\n\n" + wide + "\n```\n" + "long " * 60 + "\n```\n`" + "c" * 90 + "`"))
    fits = """return [document.scrollingElement, document.querySelector('#scroll')].every(
        e => e.scrollWidth <= e.clientWidth)"""
    assert page.js("return innerWidth") == 360 and page.js(fits)
    assert page.js("return document.querySelector('#drawer').getBoundingClientRect().right <= 0")
    page.click("#drawer-open")
    page.wait("return document.querySelector('#drawer').getBoundingClientRect().left === 0")
    assert page.focus() == "drawer-close" and page.one("#drawer-open").get_attribute("aria-expanded") == "true"
    page.press(Keys.ESCAPE)
    assert page.focus() == "drawer-open"
    page.click("#drawer-open")
    page.wait("return document.querySelector('#drawer').getBoundingClientRect().left === 0")
    page.click("#chats .open")
    page.wait("return document.querySelector('#drawer').getBoundingClientRect().right <= 0")
    page.click("#settings-open")
    page.all(page.button("Edit", ".user"))
    assert page.js("""const d = document.querySelector('#settings').getBoundingClientRect();
        return d.left >= 0 && d.right <= innerWidth && d.bottom <= innerHeight""")
    small = page.js("""return [...document.querySelectorAll('input, select, textarea')].filter(e =>
        !['range', 'checkbox'].includes(e.type) && parseFloat(getComputedStyle(e).fontSize) < 16).map(e => e.id)""")
    # a phone zooms into smaller ones
    assert small == [], small
    page.press(Keys.ESCAPE)
    tight = page.js("""return [...document.querySelectorAll('button')].filter(e => e.checkVisibility()
        && e.offsetHeight < 36).map(e => e.title || e.textContent)""")
    assert tight == [], tight
    assert page.js(fits)


@test
def follows_until_the_person_scrolls_up(page, server):
    script = server.will(*["line\n\n" * 40] * 3, gate=True)
    page.send("Q")
    at_end = """const s = document.querySelector('#scroll');
        return s.scrollHeight > s.clientHeight && s.scrollHeight - s.clientHeight - s.scrollTop < 2"""
    script.go()
    page.wait(at_end)
    for top in "-= 10", "= 100":  # even a little is meant
        page.js("document.querySelector('#scroll').scrollTop " + top)
        page.wait("return !document.querySelector('#down').hidden")
    script.go()
    page.wait("return document.querySelectorAll('.md p').length >= 80")
    assert page.js("return document.querySelector('#scroll').scrollTop") == 100
    page.click("#down")
    page.wait(at_end)
    script.go()
    page.finished()
    page.wait(at_end)
    assert page.js("return document.querySelector('#down').hidden")


# Contrast of each piece of text that shows with what lies behind it, as WCAG 2 computes it.
CONTRAST = r"""
const canvas = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const rgba = css => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = css;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data].map(v => v / 255);
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const behind = e => e ? over(rgba(getComputedStyle(e).backgroundColor), behind(e.parentElement)) : [1, 1, 1, 1];
const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) =>
    sum + w * (c[i] <= 0.04045 ? c[i] / 12.92 : ((c[i] + 0.055) / 1.055) ** 2.4), 0);
const low = [];
for (const e of document.querySelectorAll('body *')) {
    const own = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.tagName === 'SELECT';
    if (!own && !e.matches('.icon, .send') || !e.checkVisibility() || e.matches('.hidden, .skip, option')) continue;
    const ground = behind(e), a = light(over(rgba(getComputedStyle(e).color), ground)), b = light(ground);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) low.push([ratio.toFixed(2), e.outerHTML.slice(0, 80)]);
}
return low;
"""


@test
def light_and_dark_can_be_read(page, server):
    page.chat(server, ("Q", MARKDOWN))
    server.will("Part", error="It failed.")
    page.send("Q")
    page.wait("return document.querySelector('.error')")
    page.click(page.button("Delete", "#chats .here"))
    page.click("#toast button")
    page.js("document.querySelector('#toast').hidden = false")
    theme = "return document.documentElement.dataset.theme"
    for scheme in "light", "dark":
        page.media(color_scheme=scheme)
        page.wait(theme + " === arguments[0]", scheme)
        assert page.js(CONTRAST) == [], page.js(CONTRAST)
        page.click("#settings-open")
        assert page.js(CONTRAST) == [], page.js(CONTRAST)
        page.press(Keys.ESCAPE)
    page.click("#theme")
    assert page.js(theme) == "light"
    page.reload()
    assert page.js(theme) == "light"
    page.click("#theme")
    page.media(color_scheme="light")
    page.wait(theme + " === 'light'")  # back to the system's: it is followed again


@test
def moves_little_if_asked(page, server):
    moving = "return getComputedStyle(document.querySelector('.waiting i')).animationName"
    script = server.will("x", gate=True)
    page.send("Q")
    page.wait("return document.querySelector('.waiting')")
    assert page.js(moving) == "wait"
    page.media(reduced_motion="reduce")
    assert page.js(moving) == "none"
    script.go()
    page.finished()


# ---- Running them ----


def shots(page, server, folder):
    """Pictures of a conversation: light, dark, on a phone."""
    answer = open(os.path.join(HERE, "../data/page.md"), encoding="utf-8").read()
    pieces = [answer[i:i + 4] for i in range(0, len(answer), 4)]
    os.makedirs(folder, exist_ok=True)
    for name in "desktop-light", "desktop-dark", "phone-light", "phone-dark":
        page.open()
        page.media(color_scheme=name.split("-")[1])
        page.driver.set_window_size(1200, 860)
        if name.startswith("phone"):
            page.phone()
            time.sleep(0.5)  # the drawer slides away
        page.driver.save_screenshot(f"{folder}/{name}-empty.png")
        for title, answer in (("Plan a week of dinners", ["Sure."]), ("Why is the sky blue?", ["Sure."]),
                              ("How do B-trees split a full page, and why does it matter?", pieces)):
            page.js("document.querySelector('#new').click()")
            server.will(*answer, pause=0.012)
            page.send(title)
            page.finished()
        page.driver.save_screenshot(f"{folder}/{name}-end.png")
        page.js("document.querySelector('#scroll').scrollTop = 0")
        time.sleep(0.3)
        page.driver.save_screenshot(f"{folder}/{name}.png")
        page.click("#drawer-open" if name.startswith("phone") else "#settings-open")
        time.sleep(0.5)
        page.driver.save_screenshot(f"{folder}/{name}-open.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("solvent")
    parser.add_argument("--url")
    parser.add_argument("--key", default="")
    parser.add_argument("--shots")
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    server = None if args.url else Server()
    page = Page(args.url.rstrip("/") if args.url else server.origin)
    passed = failed = 0
    try:
        if args.shots:
            shots(page, server, args.shots)
            return 0
        for t in [basic_send, basic_stream, basic_stop] if args.url else TESTS:
            if args.only not in t.__name__:
                continue
            try:
                if server:
                    server.reset()
                page.open()
                if args.key:
                    page.wait("return document.querySelector('#ask-key[open]')")
                    page.press(args.key, Keys.ENTER)
                    page.wait("return document.querySelector('#model option')")
                    refused(page)
                t(page, server)
                wrong = page.watched()
                assert not wrong, wrong
                passed += 1
                print("ok   " + t.__name__, flush=True)
            except (AssertionError, WebDriverException, OSError, ValueError, LookupError, queue.Empty):
                failed += 1
                print("FAIL " + t.__name__)
                traceback.print_exc(file=sys.stdout)
                sys.stdout.flush()
    finally:
        page.close()
    print(f"{passed} passed, {failed} failed")
    return failed > 0


if __name__ == "__main__":
    sys.exit(main())
