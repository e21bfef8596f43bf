/* One message on the page: its text, its buttons, and under an answer what it cost and what went wrong.
 * A message is {role, content, stats?, note?, error?}, as it is kept. */

import { el, icon, iconButton, copyButton } from './dom.js';
import { Markdown } from './markdown.js';

const THINK = '<think>', THOUGHT = '</think>';

/* What a reasoning model thought aloud first, and its answer. */
function parts(content, open) {
    const text = content.trimStart();
    if (open && THINK.startsWith(text)) return ['', ''];
    if (!text.startsWith(THINK)) return ['', content];
    const end = text.indexOf(THOUGHT);
    if (end < 0) return [text.slice(THINK.length), ''];
    return [text.slice(THINK.length, end), text.slice(end + THOUGHT.length).trimStart()];
}

function statsLine(s) {
    const out = [];
    if (s.rate) out.push(`${s.rate.toFixed(s.rate < 100 ? 1 : 0)} tokens/s`);
    if (s.first !== undefined) out.push(`first after ${(s.first / 1000).toFixed(2)} s`);
    if (s.input !== undefined) out.push(`${s.input} in${s.cached ? `\u00a0(${s.cached}\u00a0cached)` : ''}`);
    if (s.output !== undefined) out.push(`${s.about ? '~' : ''}${s.output} out`);
    return out;
}

export class MessageView {
    /* actions: {edit(message, text), retry(message), grew()} */
    constructor(message, streaming, actions) {
        this.message = message;
        this.actions = actions;
        this.streaming = streaming;
        this.pause = 0;
        this.body = el('div', { class: 'body' });
        this.under = el('div', {});
        this.node = el('article', {
            class: 'message ' + message.role, 'aria-label': message.role === 'user' ? 'You' : 'Answer',
        }, this.body, this.under);
        this.draw();
    }

    get waiting() {
        return this.streaming && !this.message.content;
    }

    /* There is more text: shows it with the next frame, later if drawing is slow, so that it never takes more than
     * a tenth of the time. */
    grow() {
        if (this.due) return;
        this.due = setTimeout(() => requestAnimationFrame(() => {
            this.due = 0;
            if (!this.streaming) return;
            const start = performance.now();
            this.drawBody();
            this.actions.grew();
            this.pause = 9 * (performance.now() - start) - 16;
        }), this.pause);
    }

    finish() {
        this.streaming = false;
        this.draw();
        this.actions.grew();
    }

    draw() {
        this.node.setAttribute('aria-busy', this.streaming);
        this.drawBody();
        this.drawUnder();
    }

    drawBody() {
        if (this.message.role === 'user') {
            this.body.textContent = this.message.content;
            return;
        }
        if (this.waiting) {
            this.body.replaceChildren(el('div', { class: 'waiting', role: 'img', 'aria-label': 'Waiting' },
                el('i'), el('i'), el('i')));
            return;
        }
        if (!this.markdown) {
            this.thought = el('div', { class: 'thought' });
            this.think = el('details', { class: 'think' }, el('summary', {}, 'Thoughts'), this.thought);
            const answer = el('div', { class: 'md' });
            this.body.replaceChildren(this.think, answer);
            this.markdown = new Markdown(answer);
        }
        const [thought, answer] = parts(this.message.content, this.streaming);
        this.think.hidden = !thought.trim();
        this.thought.textContent = thought.trim();
        this.markdown.update(answer, this.streaming);
    }

    drawUnder() {
        const m = this.message, answer = m.role === 'assistant';
        this.under.replaceChildren();
        if (this.streaming) return;
        if (m.error) this.under.append(el('div', { class: 'error', role: 'alert' }, el('span', {}, m.error),
            el('button', { type: 'button', class: 'quiet', onclick: () => this.actions.retry(m) },
                icon('retry'), 'Retry')));
        const foot = el('div', { class: 'foot' });
        if (m.content) foot.append(copyButton('Copy', () => m.content), iconButton('edit', 'Edit', () => this.edit()));
        if (answer && !m.error) foot.append(iconButton('retry', 'Retry', () => this.actions.retry(m)));
        const stats = [...m.note ? [m.note] : [], ...statsLine(m.stats || {})];
        if (answer && stats.length) foot.append(el('span', { class: 'stats' }, stats.join('\u00a0· ')));
        this.under.append(foot);
    }

    /* Enter saves what the person wrote, as in the message box; an answer has many lines, there it is Ctrl+Enter. */
    edit() {
        const mine = this.message.role === 'user';
        const area = el('textarea', { 'aria-label': 'Edit the message' });
        const done = text => {
            form.replaceWith(this.body);
            this.drawUnder();
            if (text !== undefined && text.trim()) this.actions.edit(this.message, text);
            else this.under.querySelector('[aria-label="Edit"]').focus();
        };
        const form = el('div', { class: 'edit' }, area, el('div', { class: 'buttons' },
            el('button', { type: 'button', class: 'quiet', onclick: () => done() }, 'Cancel'),
            el('button', { type: 'button', class: 'main', onclick: () => done(area.value) }, mine ? 'Send' : 'Save')));
        form.addEventListener('keydown', e => {
            const enter = e.key === 'Enter' && e.target === area && !e.isComposing;
            if (e.key === 'Escape') done();
            else if (enter && (mine ? !e.shiftKey : e.ctrlKey)) done(area.value);
            else return;
            e.preventDefault();
            e.stopPropagation();
        });
        area.value = this.message.content;
        this.body.replaceWith(form);
        this.under.replaceChildren();
        area.style.height = Math.min(area.scrollHeight + 2, innerHeight / 2) + 'px';
        area.focus();
    }
}
