/* The server's OpenAI API. Failures are ApiError: one line for the person, and the HTTP status (0: none). */

export class ApiError extends Error {
    constructor(message, status) {
        super(message.replace(/\s+/g, ' ').slice(0, 300));
        this.status = status;
    }
}

async function request(path, key, options) {
    const headers = { 'Content-Type': 'application/json' };
    if (key) headers.Authorization = 'Bearer ' + key;
    let answer;
    try {
        answer = await fetch(path, { ...options, headers, credentials: 'omit', cache: 'no-store' });
    } catch {
        throw new ApiError('The server cannot be reached.', 0);
    }
    if (answer.ok) return answer;
    const said = await answer.json().then(j => j.error?.message, () => '');
    const wait = parseInt(answer.headers.get('Retry-After'), 10);
    throw new ApiError((typeof said === 'string' && said || `The server answered ${answer.status}.`) +
        (wait > 0 ? ` Try again in ${wait} s.` : ''), answer.status);
}

export async function models(key) {
    const list = await (await request('/v1/models', key)).json().catch(() => null);
    if (!Array.isArray(list?.data)) throw new ApiError('The server sent no list of models.', 0);
    return list.data.map(m => String(m?.id || '')).filter(Boolean);
}

/* Yields the chunks of a streamed answer; throws if it breaks off before [DONE], by the signal too. */
export async function* chat(body, key, signal) {
    const answer = await request('/v1/chat/completions', key, {
        method: 'POST', body: JSON.stringify(body), signal,
    });
    for await (const line of lines(answer.body)) {
        if (!line.startsWith('data:')) continue; // comments keep the connection alive
        const data = line.slice(5).trim();
        if (data === '[DONE]') return;
        let chunk;
        try {
            chunk = JSON.parse(data) || {};
        } catch {
            throw new ApiError('The server sent something that is no JSON.', 0);
        }
        if (chunk.error) throw new ApiError(String(chunk.error.message || 'The server failed.'), 0);
        yield chunk;
    }
    throw new ApiError('The answer broke off: the connection was closed.', 0);
}

async function* lines(body) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = '';
    try {
        for (;;) {
            const { value, done } = await reader.read();
            if (done) return;
            const parts = (rest + value).split('\n');
            rest = parts.pop();
            yield* parts;
        }
    } catch {
        throw new ApiError('The answer broke off: the connection was lost.', 0);
    } finally {
        reader.cancel().catch(() => {});
    }
}
