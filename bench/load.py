"""What bench/serve drives servers with: seeded texts, and a client of /v1/completions that does little beside
noting when tokens come, since it shares the processor with the server."""
import asyncio
import collections
import json
import math
import random
import re
import time

from peers import Refused

# Common words, nearly all of them one token with the space before them.
WORDS = ('the of and to in that it was for on are as with his they at be this from have or by one had not but what '
         'all were when we there can an your which their said if do will each about how up out them then she many some '
         'so these would other into has more her two like him see time could no make than first been its who now '
         'people my made over did down only way find use may water long little very after words called just where most '
         'know').split()
Task = collections.namedtuple('Task', 'prompt tokens')  # answered by exactly so many tokens


class Texts:
    """Sentences of seeded words; what was drawn once does not come again."""

    def __init__(self, *seed):
        self.rng = random.Random(' '.join(map(str, seed)))

    def text(self, tokens):
        """About so many tokens."""
        words = [self.rng.choice(WORDS) for _ in range(tokens)]
        for i in range(12, tokens - 1, 13):
            words[i:i + 2] = ['.', words[i + 1].capitalize()]
        return ' '.join(words).replace(' .', '.')

    def task(self, least, most, tokens, prefix=''):
        return Task((prefix + ' ' + self.text(self.rng.randint(least, most))).strip(), tokens)


class Answer(asyncio.Protocol):
    """A request and its answer: when it was sent, when each piece of text came, and how many tokens the server
    says there were. Framing is not taken apart: both servers put a chunk around whole events, and a count that
    comes out wrong is refused."""

    def __init__(self, request):
        self.request, self.start = request, time.perf_counter()
        self.rest, self.times, self.transport = b'', [], None
        self.prompt_tokens = self.tokens = None
        self.over = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data):
        now = time.perf_counter()
        *events, self.rest = (self.rest + data).split(b'\n\n')
        for e in events:
            if b'"text":"' in e and b'"text":""' not in e:
                self.times.append(now)
            if b'"completion_tokens":' in e:
                self.tokens, self.prompt_tokens = (int(re.search(rb'"%s":(\d+)' % name, e)[1])
                                                   for name in (b'completion_tokens', b'prompt_tokens'))
            if b'data: [DONE]' in e:
                self.transport.close()
                self.over.set()

    def connection_lost(self, _error):
        self.over.set()

    def cancel(self):
        self.transport.close()

    def gaps(self):
        return [b - a for a, b in zip(self.times, self.times[1:])]

    def ttft(self):
        return self.times[0] - self.start

    def check(self, tokens):
        """Raises unless all the tokens came. Several may come as one piece where the first of them are no whole
        characters."""
        if self.tokens != tokens or not tokens * 0.5 <= len(self.times) <= tokens:
            raise Refused(f'an answer of {self.tokens} tokens in {len(self.times)} pieces where {tokens} were asked for: '
                          f'{self.rest[-400:]!r}')
        return self


class Client:
    def __init__(self, port, model):
        self.port, self.model = port, model
        self.answers = []

    async def start(self, task, key=None):
        body = json.dumps(dict(model=self.model, prompt=task.prompt, max_tokens=task.tokens, stream=True,
                               stream_options=dict(include_usage=True), ignore_eos=True, temperature=0, top_k=1))
        head = f'POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: application/json\r\n'
        if key:
            head += f'Authorization: Bearer {key}\r\n'
        answer = Answer(f'{head}Content-Length: {len(body)}\r\n\r\n{body}'.encode())
        await asyncio.get_running_loop().create_connection(lambda: answer, '127.0.0.1', self.port)
        return answer

    async def ask(self, task, key=None):
        """The whole answer, checked."""
        answer = await self.start(task, key)
        await answer.over.wait()
        self.answers.append(answer.check(task.tokens))
        return answer

    async def ask_all(self, tasks, key=None):
        """At once."""
        return await asyncio.gather(*(self.ask(t, key) for t in tasks))


def percentile(values, p):
    """By nearest rank."""
    return sorted(values)[max(0, math.ceil(p / 100 * len(values)) - 1)]
