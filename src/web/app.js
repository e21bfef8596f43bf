/* The page: conversations, the answer that is coming in for each, and what the buttons and keys do.
 * `chat` is the conversation on the page, `runs` what streams now, by the conversation's id: an answer goes on while
 * the person looks at another conversation. */

import * as api from './api.js';
import * as store from './store.js';
import { $, el, icon, iconButton } from './dom.js';
import { MessageView } from './message.js';

const runs = new Map(); // id -> {stop, message, view, saved}
const settings = store.settings();
let key = store.key.get();
let chats = store.chats();
let chat = chats.find(c => c.id === location.hash.slice(1)) || store.fresh(settings.system);

/* --- The column of messages --- */

let following = true, lastTop = 0;

function follow() {
    if (!following) return;
    $('scroll').scrollTop = $('scroll').scrollHeight;
    lastTop = $('scroll').scrollTop;
}

$('scroll').addEventListener('scroll', () => {
    const s = $('scroll'), below = s.scrollHeight - s.clientHeight - s.scrollTop;
    if (below < 2 || below < 40 && s.scrollTop > lastTop) following = true;
    else if (s.scrollTop < lastTop) following = false; // text that grew below is no reason
    lastTop = s.scrollTop;
    $('down').hidden = following;
});

function toEnd() {
    following = true;
    $('down').hidden = true;
    follow();
}

function showMessage(message) {
    const run = runs.get(chat.id), streaming = run?.message === message, of = chat;
    const view = new MessageView(message, streaming, {
        edit: (m, text) => edit(of, m, text), retry: m => retry(of, m), grew: () => of === chat && follow(),
    });
    if (streaming) run.view = view;
    $('log').append(view.node);
}

/* Shows a conversation from the start. Screen readers are to read what arrives, not this. */
function show(c) {
    chat = c;
    history.replaceState(null, '', '#' + c.id);
    $('log').setAttribute('aria-live', 'off');
    $('log').replaceChildren();
    c.messages.forEach(showMessage);
    setTimeout(() => $('log').setAttribute('aria-live', 'polite'), 500);
    drawList();
    drawSend();
    toEnd();
}

function drawSend() {
    const label = runs.has(chat.id) ? 'Stop' : 'Send';
    $('send').replaceChildren(icon(label === 'Stop' ? 'stop' : 'up'));
    $('send').setAttribute('aria-label', label);
    $('send').title = label;
}

let toastTimer;
function toast(text, action, f) {
    clearTimeout(toastTimer);
    $('toast').replaceChildren(text);
    if (action) $('toast').append(el('button', { type: 'button', onclick: () => {
        $('toast').hidden = true;
        f();
    } }, action));
    $('toast').hidden = false;
    toastTimer = setTimeout(() => { $('toast').hidden = true; }, 10000);
}

/* --- Asking and answering --- */

function requestBody(c) {
    const messages = c.system.trim() ? [{ role: 'system', content: c.system }] : [];
    for (const { role, content } of c.messages) {
        const before = messages[messages.length - 1];
        if (before?.role === role) before.content += '\n\n' + content; // the answer between them failed
        else if (content) messages.push({ role, content });
    }
    const body = { model: settings.model, messages, stream: true, stream_options: { include_usage: true } };
    for (const name in store.RANGES) if (settings[name] !== null) body[name] = settings[name];
    return body;
}

/* Adds an answer to the conversation as it comes in. */
async function answer(c) {
    const message = { role: 'assistant', content: '' }, body = requestBody(c);
    const run = { stop: new AbortController(), message, view: null, saved: performance.now() };
    c.messages.push(message);
    runs.set(c.id, run);
    keep(c);
    if (c === chat) {
        showMessage(message);
        drawSend();
        toEnd();
    }
    try {
        await withKey(() => receive(c, run, body));
    } catch (error) {
        if (run.stop.signal.aborted) message.note = 'Stopped';
        else message.error = error.message;
        if (!(error instanceof api.ApiError)) console.error(error); // our own mistake
    }
    if (runs.get(c.id) === run) runs.delete(c.id);
    run.view?.finish();
    if (chats.includes(c)) keep(c);
    drawSend();
}

async function receive(c, run, body) {
    const start = performance.now(), now = () => performance.now() - start;
    const message = run.message, s = message.stats = {};
    let last = 0, pieces = 0;
    try {
        for await (const chunk of api.chat(body, key, run.stop.signal)) {
            const choice = chunk.choices?.[0], text = choice?.delta?.content;
            if (typeof text === 'string' && text) {
                last = now();
                s.first ??= last;
                pieces++;
                message.content += text;
                run.view?.grow();
            }
            if (choice?.finish_reason === 'length') message.note = 'Cut off at max tokens';
            if (chunk.usage) {
                s.input = chunk.usage.prompt_tokens;
                s.output = chunk.usage.completion_tokens;
                s.cached = chunk.usage.prompt_tokens_details?.cached_tokens;
            }
            if (performance.now() - run.saved > 2000) {
                run.saved = performance.now();
                keep(c);
            }
        }
    } finally {
        s.about = s.output === undefined;
        if (s.about && pieces) s.output = pieces;
        if (s.output > 1 && last > s.first) s.rate = (s.output - 1) / (last - s.first) * 1000;
    }
}

function ask(c, text) {
    const message = { role: 'user', content: text };
    c.title ||= text.trim().split('\n')[0].slice(0, 60);
    c.messages.push(message);
    if (c === chat) showMessage(message);
    answer(c);
}

function send() {
    const text = $('prompt').value;
    if (!text.trim() || runs.has(chat.id)) return;
    $('prompt').value = '';
    fitPrompt();
    ask(chat, text);
}

const stop = c => runs.get(c.id)?.stop.abort();

/* Cuts the conversation before a message; more than that one is given back if the person wants it. */
function cut(c, message) {
    const from = c.messages.indexOf(message), gone = c.messages.splice(from);
    stop(c);
    runs.delete(c.id);
    if (c === chat) show(c);
    if (gone.length > 1) toast('The messages below it were removed.', 'Undo', () => {
        stop(c);
        runs.delete(c.id);
        c.messages.splice(from, Infinity, ...gone);
        keep(c);
        show(c);
    });
}

function retry(c, message) {
    cut(c, message);
    answer(c);
}

function edit(c, message, text) {
    cut(c, message);
    if (message.role === 'user') return ask(c, text);
    c.messages.push({ role: 'assistant', content: text });
    keep(c);
    show(c);
}

/* --- The key, the models --- */

let asking;
function askKey() {
    asking ||= new Promise(resolve => {
        const dialog = $('ask-key');
        $('key-why').textContent = key ? 'The server refused the key.' : 'This server asks for a key.';
        $('key').value = dialog.returnValue = '';
        $('remember').checked = Boolean(store.key.get());
        dialog.addEventListener('close', () => {
            asking = null;
            const given = dialog.returnValue === 'ok' && $('key').value.trim();
            if (given) {
                key = given;
                store.key.set($('remember').checked ? key : '');
            }
            $('key').value = '';
            resolve(Boolean(given));
        }, { once: true });
        dialog.showModal();
    });
    return asking;
}

async function withKey(f) {
    for (;;) {
        try {
            return await f();
        } catch (error) {
            if (error.status !== 401 || !await askKey()) throw error;
        }
    }
}

async function loadModels() {
    try {
        const names = await withKey(() => api.models(key));
        $('model').replaceChildren(...names.map(name => el('option', { value: name }, name)));
        if (!names.includes(settings.model)) settings.model = names[0] || '';
        $('model').value = settings.model;
        if (!names.length) toast('The server has no model.', 'Retry', loadModels);
    } catch (error) {
        toast(error.message, 'Retry', loadModels);
    }
}

$('model').addEventListener('change', () => {
    settings.model = $('model').value;
    store.saveSettings(settings);
});

/* --- The list of conversations --- */

function keep(c) {
    c.changed = Date.now();
    if (!chats.includes(c)) chats.push(c);
    chats.sort((a, b) => b.changed - a.changed);
    if (!store.save(c)) toast('This browser has no room left to keep this conversation: export or delete some.');
    drawList();
}

function drawList() {
    const had = $('chats').contains(document.activeElement), title = chat.title || 'New conversation';
    if (had && document.activeElement.tagName === 'INPUT') return; // being renamed
    const open = c => {
        show(c);
        drawer(false);
    };
    $('chats').replaceChildren(...chats.map(c => el('li', { class: c === chat ? 'here' : '' },
        el('button', {
            type: 'button', class: 'open', 'aria-current': c === chat && 'true', title: c.title, onclick: () => open(c),
        }, c.title || 'New conversation'),
        iconButton('edit', 'Rename', e => rename(c, e.currentTarget.closest('li'))),
        iconButton('save', 'Export', () => download(c, c.title)),
        iconButton('trash', 'Delete', () => discard(c)))));
    if (had) $('chats').querySelector('.here .open')?.focus();
    $('title').textContent = title;
    document.title = chat.title ? title + ' – Solvent' : 'Solvent';
    $('export-all').hidden = !chats.length;
}

function rename(c, row) {
    const input = el('input', { 'aria-label': 'Name of the conversation', maxlength: 100 });
    let named = false;
    const done = (save, focus) => {
        if (named) return;
        named = true;
        if (save && input.value.trim()) c.title = input.value.trim();
        input.blur();
        store.save(c);
        drawList();
        if (focus) $('chats').children[chats.indexOf(c)].firstChild.focus();
    };
    input.value = c.title;
    input.addEventListener('keydown', e => {
        if (e.key !== 'Enter' && e.key !== 'Escape' || e.isComposing) return;
        e.stopPropagation();
        done(e.key === 'Enter', true);
    });
    input.addEventListener('blur', () => done(true));
    row.replaceChildren(input);
    input.select();
}

function discard(c) {
    stop(c);
    chats = chats.filter(other => other !== c);
    store.remove(c);
    if (c === chat) show(store.fresh(settings.system));
    else drawList();
    toast(`“${c.title.slice(0, 30)}” was deleted.`, 'Undo', () => {
        keep(c);
        show(c);
    });
}

function download(what, name) {
    const url = URL.createObjectURL(new Blob([JSON.stringify(what, null, 2)], { type: 'application/json' }));
    const file = name.replace(/[^\p{L}\p{N}]+/gu, '-').slice(0, 40) || 'conversation';
    el('a', { href: url, download: `solvent-${file}.json` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
}

function drawer(open) {
    const was = document.body.classList.contains('drawn');
    document.body.classList.toggle('drawn', open);
    $('page').inert = open;
    $('drawer-open').setAttribute('aria-expanded', open);
    if (open) $('drawer-close').focus();
    else if (was) $('drawer-open').focus();
}

$('new').addEventListener('click', () => {
    show(store.fresh(settings.system));
    drawer(false);
    $('prompt').focus();
});
$('export-all').addEventListener('click', () => download(chats, 'conversations'));
$('drawer-open').addEventListener('click', () => drawer(true));
$('drawer-close').addEventListener('click', () => drawer(false));
$('shade').addEventListener('click', () => drawer(false));
matchMedia('(max-width: 760px)').addEventListener('change', () => drawer(false));
addEventListener('storage', () => { // another tab changed something
    chats = store.chats().map(c => chats.find(o => o.id === c.id && (o === chat || runs.has(o.id))) || c);
    drawList();
});
addEventListener('pagehide', () => {
    for (const c of chats) if (runs.has(c.id)) store.save(c);
});

/* --- Settings --- */

function drawSettings() {
    for (const [name, range] of Object.entries(store.RANGES)) {
        const input = $(name), value = settings[name];
        for (const limit of ['min', 'max', 'step']) input[limit] = range[limit];
        input.value = value ?? '';
        if (input.type === 'range') $(name + '-is').textContent = value.toFixed(2);
    }
    $('system').value = chat.system;
    $('forget').hidden = !key;
}

for (const name in store.RANGES) {
    $(name).addEventListener('input', () => {
        settings[name] = store.inRange(name, $(name).value);
        if ($(name).type === 'range') $(name + '-is').textContent = settings[name].toFixed(2);
    });
    $(name).addEventListener('change', () => { $(name).value = settings[name] ?? ''; });
}
$('system').addEventListener('input', () => { settings.system = chat.system = $('system').value; });
$('reset').addEventListener('click', () => {
    for (const name in store.RANGES) settings[name] = store.RANGES[name].start;
    settings.system = chat.system = '';
    drawSettings();
});
$('forget').addEventListener('click', () => {
    key = '';
    store.key.set('');
    drawSettings();
});
$('settings-open').addEventListener('click', () => {
    drawSettings();
    $('settings').showModal();
});
$('settings').addEventListener('close', () => {
    store.saveSettings(settings);
    if (chats.includes(chat)) store.save(chat);
});
$('key-cancel').addEventListener('click', () => $('ask-key').close());
$('theme').addEventListener('click', () => window.switchTheme());

/* --- The message box and the keys --- */

function fitPrompt() {
    $('prompt').style.height = 'auto';
    $('prompt').style.height = $('prompt').scrollHeight + 'px';
}

$('prompt').addEventListener('input', fitPrompt);
$('prompt').addEventListener('keydown', e => {
    if (e.key !== 'Enter' || e.shiftKey || e.isComposing || e.keyCode === 229) return; // 229: Safari composing
    e.preventDefault();
    send();
});
$('composer').addEventListener('submit', e => {
    e.preventDefault();
    if (runs.has(chat.id)) stop(chat);
    else send();
});
$('down').addEventListener('click', toEnd);
document.querySelector('.skip').addEventListener('click', e => {
    e.preventDefault(); // the address names the conversation
    $('prompt').focus();
});
document.addEventListener('keydown', e => {
    if (e.key !== 'Escape' || document.querySelector('dialog[open]')) return;
    if (document.body.classList.contains('drawn')) drawer(false);
    else stop(chat);
});

for (const button of document.querySelectorAll('[data-icon]')) {
    button.prepend(icon(button.dataset.icon));
    if (button.title) button.setAttribute('aria-label', button.title);
}
show(chat);
loadModels();
if (matchMedia('(hover: hover)').matches) $('prompt').focus();
