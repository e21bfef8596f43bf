/* The text of a block to DOM nodes: emphasis, code, links, line breaks. One pass over the tokens, with a stack of what
 * is open (as CommonMark describes), both capped: no text makes it slow or its nodes deep. An address becomes a link
 * only if it is http or https; everything else stays the text that it is.
 * `open`: the text is still growing, so what is open at its end is shown as if it were closed there. */

import { el } from './dom.js';

const LONGEST = 20000, MOST_OPEN = 12;
const TOKEN = /\\[\\`*_{}#+\-.!|~<>]|`+|!?\[|\*+|_+|~~|https?:\/\/[^\s<>"'`*]{1,2000}|<br ?\/?>|\n/gi;
const LINK = /!?\[((?:[^[\]\\]|\\.){0,500})\]\( ?<?((?:[^\s()<>]|\([^\s()<>]*\)){0,2000})>?(?: "[^"]{0,300}")? ?\)/y;
const HALF_LINK = /!?\[([^[\]]{0,500})\]\([^\s()]{0,2000}$/y;
const PUNCTUATION = /[\p{P}\p{S}]/u;

export function inline(text, open) {
    const out = document.createDocumentFragment();
    if (text.length > LONGEST) out.append(text);
    else new Inline(text, open).into(out, true);
    return out;
}

function link(address, ...inside) {
    let url;
    try {
        url = new URL(address);
    } catch {
        return null;
    }
    if (url.protocol !== 'http:' && url.protocol !== 'https:') return null;
    return el('a', { href: url.href, target: '_blank', rel: 'noopener noreferrer' }, ...inside);
}

class Inline {
    constructor(text, open) {
        this.text = text;
        this.open = open;
        this.parts = []; // strings, nodes, and runs {mark, left, node: null} that may yet be emphasis
        this.stack = []; // the indices in parts of the runs that can open
        this.unclosed = new Set(); // lengths of backtick runs that no later run matches
    }

    into(node, links) {
        const token = new RegExp(TOKEN);
        let done = 0, m;
        while ((m = token.exec(this.text))) {
            if (m.index > done) this.parts.push(this.text.slice(done, m.index));
            token.lastIndex = done = this.take(m[0], m.index, links);
        }
        this.parts.push(this.text.slice(done));
        if (this.open) this.closeAll();
        for (const p of this.parts) node.append(p.mark ? p.mark.repeat(p.left) : p);
    }

    /* Adds what the token at `at` means; gives back where to go on. */
    take(token, at, links) {
        const first = token[0], after = at + token.length;
        if (first === '`') return this.code(token, at);
        if (first === '*' || first === '_' || first === '~') return this.run(first, token.length, at);
        if (first === '\n' || first === '<') this.parts.push(el('br'));
        else if (first === '\\') this.parts.push(token[1]);
        else if (first === 'h' || first === 'H') return this.bare(token, at, links);
        else return links && this.link(at) || (this.parts.push(token), after);
        return after;
    }

    code(ticks, at) {
        const from = at + ticks.length;
        let end = this.unclosed.has(ticks.length) ? -1 : this.text.indexOf(ticks, from);
        while (end >= 0) {
            let past = end;
            while (this.text[past] === '`') past++;
            if (past - end === ticks.length) break;
            end = this.text.indexOf(ticks, past);
        }
        if (end < 0 && !this.open) {
            this.unclosed.add(ticks.length);
            this.parts.push(ticks);
            return from;
        }
        const src = (end < 0 ? this.text.slice(from) : this.text.slice(from, end)).replaceAll('\n', ' ');
        const trim = src.length > 2 && src.startsWith(' ') && src.endsWith(' ');
        if (src) this.parts.push(el('code', {}, trim ? src.slice(1, -1) : src));
        return end < 0 ? this.text.length : end + ticks.length;
    }

    link(at) {
        LINK.lastIndex = HALF_LINK.lastIndex = at;
        const whole = LINK.exec(this.text), m = whole || this.open && HALF_LINK.exec(this.text);
        if (!m) return 0;
        const label = document.createDocumentFragment();
        new Inline(m[1] || m[2] || '', false).into(label, false);
        const node = whole ? link(m[2], label) : label;
        this.parts.push(node || m[0]);
        return at + m[0].length;
    }

    bare(token, at, links) {
        let end = token.length;
        while (end > 0 && '.,;:!?)]|_~'.includes(token[end - 1]) &&
            !(token[end - 1] === ')' && token.slice(0, end).includes('('))) end--;
        const address = token.slice(0, end);
        this.parts.push(links && link(address, address) || address);
        return at + end;
    }

    run(mark, length, at) {
        const before = this.text[at - 1] || ' ', after = this.text[at + length] || ' ';
        const space = [!before.trim(), !after.trim()];
        const sign = [PUNCTUATION.test(before), PUNCTUATION.test(after)];
        const left = !space[1] && (!sign[1] || space[0] || sign[0]);
        const right = !space[0] && (!sign[0] || space[1] || sign[1]);
        let count = length;
        if (right && !(mark === '_' && left && !sign[1])) count = this.close(mark, count);
        const growing = this.open && at + length === this.text.length; // what it is the next character says
        if (count && !growing) {
            const opens = left && !(mark === '_' && right && !sign[0]);
            if (opens && this.stack.length < MOST_OPEN) this.stack.push(this.parts.length);
            this.parts.push({ mark, left: count });
        }
        return at + length;
    }

    /* Ends emphasis that is open; gives back how many of the marks are left over. */
    close(mark, count) {
        for (let s = this.stack.length - 1; s >= 0 && count > 0; s--) {
            const opener = this.parts[this.stack[s]];
            if (opener.mark !== mark || mark === '~' && opener.left !== count) continue;
            this.stack.length = s + 1; // those above it stay text
            while (opener.left > 0 && count > 0) {
                const n = Math.min(2, opener.left, count);
                this.wrap(this.stack[s], mark === '~' ? 'del' : n === 2 ? 'strong' : 'em');
                opener.left -= n;
                count -= n;
            }
            if (!opener.left) this.stack.pop();
        }
        return count;
    }

    wrap(index, tag) {
        const inside = this.parts.splice(index + 1).map(p => p.mark ? p.mark.repeat(p.left) : p);
        this.parts.push(el(tag, {}, ...inside));
    }

    closeAll() {
        while (this.stack.length) {
            const opener = this.parts[this.stack[this.stack.length - 1]];
            this.close(opener.mark, opener.left);
        }
    }
}
