"""A headless Chromium, and a server of scripted answers that serves src/web: for tests of the chat page.

Needs chromium, chromium-driver and python3-selenium of Debian."""
import http.server
import json
import os
import queue
import shutil
import sys
import tempfile
import threading
import time
import traceback

os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.action_chains import ActionChains  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402

WEB = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../src/web")
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
          "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
TYPES = {"html": "text/html; charset=utf-8", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
TIMEOUT = 30  # seconds; nothing takes one


# ---- The server ----


class Script:
    """An answer: its pieces, with `gate` each sent when the test says go(); then an error, or how it ends."""

    def __init__(self, *pieces, gate=False, status=200, error=None, end="stop", headers=(), chop=False, pause=0):
        self.pieces, self.status, self.error, self.end, self.headers = pieces, status, error, end, headers
        self.chop = chop  # sends byte by byte, with the line ends of Windows
        self.pause = pause  # seconds before each piece, for pictures
        self.gate = threading.Semaphore(0) if gate else None
        self.gone = threading.Event()  # the client left before the end

    def go(self, times=1):
        for _ in range(times):
            self.gate.release()


class Handler(http.server.BaseHTTPRequestHandler):
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def reply(self, status, kind, body, *headers):
        self.send_response(status)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(body))),
                            ("Content-Security-Policy", POLICY), ("X-Content-Type-Options", "nosniff"), *headers):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def fail(self, status, message, *headers):
        error = {"message": message, "type": "server_error", "param": None, "code": None}
        self.reply(status, "application/json", json.dumps({"error": error}).encode(), *headers)

    def denied(self):
        if self.server.key and self.headers["Authorization"] != "Bearer " + self.server.key:
            self.fail(401, "Incorrect API key provided.")
            return True
        return False

    def do_GET(self):
        name = "index.html" if self.path == "/" else self.path.removeprefix("/web/")
        path = os.path.join(WEB, name)
        if self.path == "/v1/models":
            models = [{"id": name, "object": "model"} for name in self.server.models]
            if not self.denied():
                self.reply(200, "application/json", json.dumps({"object": "list", "data": models}).encode())
        elif "/" not in name and os.path.isfile(path):
            with open(path, "rb") as f:
                self.reply(200, TYPES[name.rsplit(".", 1)[1]], f.read())
        else:
            self.fail(404, "no such page: " + self.path)

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            return self.fail(404, "no such page")
        if self.denied():
            return None
        self.server.asked.append(body)
        script = self.script = self.server.scripts.get_nowait()
        if script.status == 0:  # closes without a word
            return None
        if script.status != 200:
            return self.fail(script.status, script.error, *script.headers)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            self.stream(script, body)
        except OSError:
            script.gone.set()
        return None

    def line(self, text):
        data = (text + "\n\n").encode()
        if self.script.chop:
            for byte in data.replace(b"\n", b"\r\n"):
                self.wfile.write(bytes([byte]))  # a packet each
                time.sleep(0)
        else:
            self.wfile.write(data)

    def event(self, **fields):
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "usage": None, **fields}
        self.line("data: " + json.dumps(chunk, ensure_ascii=False))

    def choice(self, delta, finish=None):
        self.event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    def stream(self, script, body):
        self.choice({"role": "assistant", "content": ""})
        for piece in script.pieces:
            while script.gate and not script.gate.acquire(timeout=0.05):
                self.line(": keep-alive")  # fails when the client has gone
            time.sleep(script.pause)
            self.choice({"content": piece})
        if script.error:
            self.line("data: " + json.dumps({"error": {"message": script.error}}))
        elif script.end:
            self.choice({}, script.end)
            if body.get("stream_options", {}).get("include_usage"):
                details = {"cached_tokens": 5}
                self.event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": len(script.pieces),
                                              "prompt_tokens_details": details})
            self.line("data: [DONE]")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.origin = "http://127.0.0.1:%d" % self.server_port
        self.reset()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, request, client_address):
        if not isinstance(sys.exc_info()[1], OSError):
            traceback.print_exc()

    def reset(self):
        self.key, self.models, self.asked, self.scripts = "", ["tiny", "large"], [], queue.Queue()

    def will(self, *pieces, **how):
        script = Script(*pieces, **how)
        self.scripts.put(script)
        return script


# ---- The browser ----

WATCH = """window.stopped = []; document.addEventListener('securitypolicyviolation',
    e => stopped.push(e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));"""


class Page:
    def __init__(self, origin):
        self.origin, self.dir = origin, tempfile.mkdtemp(prefix="solvent-page-")
        options = webdriver.ChromeOptions()
        options.binary_location = shutil.which("chromium") or "/usr/bin/chromium"
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "no-proxy-server",
                     "window-size=1200,800", "user-data-dir=" + self.dir + "/profile"):
            options.add_argument("--" + flag)
        options.add_experimental_option("prefs", {"download.default_directory": self.dir})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = shutil.which("chromedriver") or "/usr/bin/chromedriver"
        self.driver = webdriver.Chrome(service=Service(driver), options=options)
        self.driver.set_script_timeout(TIMEOUT)
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        self.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=self.dir)
        self.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"],
                 origin=origin)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.dir, ignore_errors=True)

    def cdp(self, command, **args):
        return self.driver.execute_cdp_cmd(command, args)

    def open(self):
        """The page as a newcomer sees it."""
        self.cdp("Emulation.clearDeviceMetricsOverride")
        self.cdp("Emulation.setEmulatedMedia", features=[])
        self.driver.get(self.origin + "/web/favicon.svg")
        self.js("localStorage.clear()")
        self.watched()
        self.load()

    def load(self):
        self.driver.get("about:blank")
        self.driver.get(self.origin + "/")
        self.wait("return document.querySelector('#model option') || document.querySelector('dialog[open]')")

    def reload(self):
        self.driver.refresh()
        self.wait("return document.querySelector('#model option') || document.querySelector('dialog[open]')")

    def phone(self):
        self.cdp("Emulation.setDeviceMetricsOverride", width=360, height=740, deviceScaleFactor=2, mobile=True)

    def media(self, **features):
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-" + n.replace("_", "-"), "value": v} for n, v in features.items()])

    def js(self, script, *args):
        return self.driver.execute_script(script, *args)

    def wait(self, script, *args):
        until = time.monotonic() + TIMEOUT
        while time.monotonic() < until:
            value = self.js(script, *args)
            if value:
                return value
            time.sleep(0.02)
        raise AssertionError(f"never true: {script} {args}: {self.js('return document.body.innerText')}")

    def all(self, css):
        return self.driver.find_elements("css selector", css)

    def one(self, css):
        (found,) = self.all(css)
        return found

    def click(self, css):
        self.one(css).click()

    def press(self, *keys):
        ActionChains(self.driver).send_keys(*keys).perform()

    def focus(self):
        return self.js("const a = document.activeElement; return a.id || a.getAttribute('aria-label') || a.tagName")

    def text(self, css):
        return [e.text for e in self.all(css)]

    def send(self, text):
        self.one("#prompt").send_keys(text, Keys.ENTER)

    def finished(self, n=1):
        """Waits until there are n answers and none is coming in; gives back the text of the last."""
        self.wait("""const a = [...document.querySelectorAll('.assistant')];
            return a.length === arguments[0] && a.every(m => m.getAttribute('aria-busy') === 'false')
                && document.querySelector('#send').title === 'Send'""", n)
        return self.text(".assistant .body")[-1]

    def chat(self, server, *turns):
        for n, (mine, answer) in enumerate(turns):
            server.will(answer)
            self.send(mine)
            self.finished(n + 1)

    def shows(self, text):
        self.wait("return document.body.innerText.includes(arguments[0])", text)

    def button(self, label, within="body"):
        return f"{within} button[aria-label='{label}']"

    def downloaded(self, name):
        """What a file of JSON holds; the browser makes it empty at first."""
        path, until = os.path.join(self.dir, name), time.monotonic() + TIMEOUT
        while not (os.path.exists(path) and os.path.getsize(path)):
            assert time.monotonic() < until, name + " is not there"
            time.sleep(0.05)
        with open(path) as f:
            return json.load(f)

    def watched(self):
        """What must not happen, since the last call: console messages, what the policy stopped, foreign requests."""
        wrong = [entry["message"] for entry in self.driver.get_log("browser")]
        wrong += ["policy: " + s for s in self.js("return window.stopped.splice(0)")]
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                url = message["params"]["request"]["url"]
                if not url.startswith((self.origin + "/", "data:", "about:", "blob:" + self.origin)):
                    wrong.append("foreign request: " + url)
        return wrong
