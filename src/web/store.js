/* What the browser keeps: a localStorage item a conversation, so that two tabs do not overwrite each other's, and
 * one for the settings. All of it is read as if a stranger had written it. Nothing is thrown away to make room:
 * save() returns false when there is none, and the page says so. */

const CHAT = 'solvent.chat.', SETTINGS = 'solvent.settings', KEY = 'solvent.key';
const MOST = 4 << 20; // characters in all; browsers give some 5 million

/* Sampling: what the sliders and fields allow, and what a fresh page has. The server's own defaults. */
export const RANGES = {
    temperature: { min: 0, max: 2, step: 0.05, start: 0.8 },
    top_p: { min: 0.05, max: 1, step: 0.05, start: 0.95 },
    max_tokens: { min: 1, max: 32768, step: 1, start: 2048 },
    seed: { min: 0, max: 4294967295, step: 1, start: null }, // null: not sent
};

export function inRange(name, value) {
    const r = RANGES[name], n = typeof value === 'string' && !value.trim() ? NaN : Number(value ?? NaN);
    if (!Number.isFinite(n)) return r.start;
    return Math.min(r.max, Math.max(r.min, r.step === 1 ? Math.round(n) : n));
}

function get(name) {
    try {
        return localStorage.getItem(name);
    } catch {
        return null;
    }
}

function set(name, value) {
    try {
        if (value === null) localStorage.removeItem(name);
        else localStorage.setItem(name, value);
        return true;
    } catch {
        return false; // full, or switched off
    }
}

function parse(text) {
    try {
        return JSON.parse(text) || {};
    } catch {
        return {};
    }
}

export const key = { get: () => get(KEY) || '', set: value => set(KEY, value || null) };

export function settings() {
    const s = parse(get(SETTINGS));
    const out = { model: String(s.model || ''), system: String(s.system || '') };
    for (const name in RANGES) out[name] = inRange(name, s[name]);
    return out;
}

export const saveSettings = s => set(SETTINGS, JSON.stringify(s));

export function fresh(system) {
    const id = Array.from(crypto.getRandomValues(new Uint32Array(2)), n => n.toString(36)).join('');
    return { id, title: '', system, changed: Date.now(), messages: [] };
}

function chatOf(name) {
    const c = parse(get(name)), messages = Array.isArray(c.messages) ? c.messages : [];
    const numbers = s => Object.fromEntries(Object.entries(s || {}).filter(([, v]) => Number.isFinite(v) || v === true));
    return {
        id: name.slice(CHAT.length), title: String(c.title || ''), system: String(c.system || ''),
        changed: Number(c.changed) || 0,
        messages: messages.filter(m => ['user', 'assistant'].includes(m?.role) && typeof m.content === 'string')
            .map(m => ({
                role: m.role, content: m.content, note: String(m.note || ''), error: String(m.error || ''),
                stats: numbers(m.stats),
            })),
    };
}

function names() {
    try {
        return Object.keys(localStorage).filter(name => name.startsWith(CHAT));
    } catch {
        return [];
    }
}

/* All conversations, the newest first. */
export const chats = () => names().map(chatOf).sort((a, b) => b.changed - a.changed);

export function save(chat) {
    const text = JSON.stringify(chat), name = CHAT + chat.id;
    const others = names().reduce((n, k) => n + (k === name ? 0 : (get(k) || '').length), 0);
    return others + text.length <= MOST && set(name, text);
}

export const remove = chat => set(CHAT + chat.id, null);
