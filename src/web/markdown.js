/* Markdown to DOM nodes while it arrives: blocks here, the text within them in inline.js.
 *
 *     const view = new Markdown(element);
 *     view.update(text, true);    // as often as there is more; text only ever grows
 *     view.update(text, false);   // it is complete
 *
 * The dialect is what models write: CommonMark without HTML, reference links and setext headings, with tables; a line
 * break breaks the line. An update parses from the start of the last block on (the one before it, where that is not
 * yet sure), because what follows cannot change the blocks before it, and touches only the nodes whose source is
 * another. A marker that is still growing (`**`, "1.") is held back until the next character says what it is, so
 * nothing shows as text first and then jumps. */

import { el, copyButton } from './dom.js';
import { colour } from './colour.js';
import { inline } from './inline.js';

const DEEPEST = 8; // quotes and lists within each other; deeper ones are paragraphs
const FENCE = /^( *)(`{3,}|~{3,})(.*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}([-*_])(?:[ \t]*\1){2,}[ \t]*$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])(?: {1,4}|$)/;
const GROWING = /^[ \t]*(?:[-*+_>#|`~]{1,6} ?|\d{1,3}[.)]? ?|(?:```|~~~)[^`]*)$/;

const blank = line => !line.trim();
const indentOf = line => line.length - line.trimStart().length;
const delimiters = line => line !== undefined && line.includes('-') && line.includes('|') &&
    line.trim().replace(/^\||\|$/g, '').split('|').every(cell => /^\s*:?-+:?\s*$/.test(cell));
const fence = line => {
    const m = FENCE.exec(line);
    return m && !(m[2][0] === '`' && m[3].includes('`')) ? m : null;
};
const starts = line => fence(line) || HEADING.test(line) || RULE.test(line) || QUOTE.test(line) || ITEM.test(line);

export class Markdown {
    constructor(root) {
        this.root = root;
        this.from = 0; // where the last block starts; those before it are final
    }

    update(text, open) {
        let rest = text.slice(this.from);
        const last = rest.lastIndexOf('\n') + 1;
        if (open && GROWING.test(rest.slice(last))) rest = rest.slice(0, last);
        const blocks = parse(rest, 0, open);
        sync(this.root, blocks, 0, open);
        // A line and the one below it say whether a block starts there: only whole ones are believed.
        const sure = last > 1 ? rest.lastIndexOf('\n', last - 2) + 1 : 0;
        const kept = Math.max(0, blocks.findLastIndex(b => b.at < sure));
        this.from += blocks[kept]?.at || 0;
        this.root.blocks = blocks.slice(kept);
    }
}

/* The blocks of a text: {kind, head: what its node is made of, src: what is in it, at: offset in the text}. */
function parse(text, depth, open) {
    const lines = text.split('\n'), blocks = [];
    let i = 0, at = 0, counted = 0;
    while (i < lines.length) {
        if (blank(lines[i])) {
            i++;
            continue;
        }
        for (; counted < i; counted++) at += lines[counted].length + 1;
        const [block, next] = code(lines, i) || heading(lines, i) || depth < DEEPEST &&
            (quote(lines, i) || list(lines, i)) || table(lines, i, open) || paragraph(lines, i, depth);
        blocks.push({ ...block, at });
        i = next;
    }
    return blocks;
}

function code(lines, i) {
    const m = fence(lines[i]);
    if (!m) return null;
    const body = [], end = m[2];
    for (i++; i < lines.length; i++) {
        const trimmed = lines[i].trim();
        if (trimmed.length >= end.length && trimmed === end[0].repeat(trimmed.length)) break;
        body.push(lines[i].slice(Math.min(indentOf(lines[i]), m[1].length)));
    }
    const closed = i < lines.length;
    return [{ kind: 'code', head: m[3].trim().split(/[\s{,]/)[0].slice(0, 30), src: body.join('\n'), closed }, i + 1];
}

function heading(lines, i) {
    if (RULE.test(lines[i])) return [{ kind: 'hr', head: '', src: '' }, i + 1];
    const m = HEADING.exec(lines[i]);
    if (!m) return null;
    let src = lines[i].slice(m[0].length).trim(), end = src.length;
    while (end > 0 && src[end - 1] === '#') end--;
    if (end === 0 || src[end - 1] === ' ') src = src.slice(0, end).trim();
    return [{ kind: 'heading', head: m[1].length, src }, i + 1];
}

function quote(lines, i) {
    const body = [];
    for (; i < lines.length && QUOTE.test(lines[i]); i++) body.push(lines[i].replace(QUOTE, ''));
    return body.length ? [{ kind: 'quote', head: '', src: body.join('\n') }, i] : null;
}

/* Items one below the other; an item holds what is indented below it, by two columns or more. */
function list(lines, i) {
    const first = ITEM.exec(lines[i]);
    if (!first) return null;
    const base = first[1].length, mark = first[2].slice(-1), items = [];
    let loose = false;
    while (i < lines.length) {
        const m = ITEM.exec(lines[i]);
        if (!m || m[1].length < base || m[2].slice(-1) !== mark || RULE.test(lines[i])) break;
        const body = [lines[i++].slice(m[0].length)], inner = base + m[2].length + 1;
        for (; i < lines.length; i++) {
            let next = i;
            while (next < lines.length && blank(lines[next])) next++;
            const line = lines[next], inside = line !== undefined && indentOf(line) >= base + 2;
            if (next > i) { // after an empty line only what is indented goes on
                const sibling = line !== undefined && !inside && ITEM.test(line);
                loose = loose || inside || sibling;
                if (inside) body.push(...Array(next - i).fill(''));
                i = next;
            }
            if (!inside && (body.length > 0 && lines[i - 1] !== undefined && blank(lines[i - 1]) ||
                line === undefined || starts(line))) break;
            body.push(line.slice(Math.min(indentOf(line), inner)));
        }
        items.push(body.join('\n'));
    }
    const start = parseInt(first[2], 10);
    return [{ kind: 'list', head: Number.isNaN(start) ? 'ul' : 'ol ' + start, src: items.join('\n'), items, loose }, i];
}

function table(lines, i, open) {
    const line = lines[i], next = lines[i + 1], last = open && i + 2 >= lines.length;
    const coming = last && line.trimStart().startsWith('|') && /^[|:\- ]*$/.test(next || '');
    if (!line.includes('|') || !(delimiters(next) || coming)) return null;
    const align = cells(next || '').map(c => (c.startsWith(':') ? 1 : 0) + (c.endsWith(':') ? 2 : 0));
    const from = i;
    for (i += 2; i < lines.length && !blank(lines[i]) && !starts(lines[i]); i++);
    return [{ kind: 'table', head: line, src: [align, ...lines.slice(from + 2, i)].join('\n'), align }, i];
}

function cells(line) {
    return line.trim().replace(/^\||(?<!\\)\|$/g, '').split(/(?<!\\)\|/).map(c => c.trim().replaceAll('\\|', '|'));
}

function paragraph(lines, i, depth) {
    const from = i++;
    const ends = n => blank(lines[n]) || depth < DEEPEST && starts(lines[n]) ||
        lines[n].includes('|') && delimiters(lines[n + 1]);
    while (i < lines.length && !ends(i)) i++;
    return [{ kind: 'paragraph', head: '', src: lines.slice(from, i).map(l => l.trim()).join('\n') }, i];
}

/* Makes the children of parent those blocks, from the ones that it shows now. */
function sync(parent, blocks, depth, open) {
    const old = parent.blocks || [];
    blocks.forEach((b, n) => {
        const was = old[n], same = was && was.kind === b.kind && was.head === b.head;
        b.open = open && n === blocks.length - 1;
        b.node = same ? was.node : MAKE[b.kind](b);
        if (!same && was) was.node.replaceWith(b.node);
        else if (!was) parent.append(b.node);
        if (!same || was.src !== b.src || was.open !== b.open) FILL[b.kind]?.(b.node, b, depth, same ? was : null);
        if (b.kind === 'list') b.node.classList.toggle('loose', b.loose);
    });
    for (const gone of old.slice(blocks.length)) gone.node.remove();
    parent.blocks = blocks;
}

const text = (node, b) => node.replaceChildren(inline(b.src, b.open));
const nested = (node, b, depth) => sync(node, parse(b.src, depth + 1, b.open), depth + 1, b.open);

const MAKE = {
    paragraph: () => el('p'),
    hr: () => el('hr'),
    heading: b => el('h' + Math.min(6, b.head + 1)), // the page's own is h1
    quote: () => el('blockquote'),
    list: b => b.head === 'ul' ? el('ul') : el('ol', { start: b.head.slice(3) }),
    item: () => el('li'),
    row: b => el('tr', {}, ...Array.from({ length: b.head }, () => el(b.tag))),
    table: b => el('div', { class: 'table', tabindex: 0, role: 'group', 'aria-label': 'Table' },
        el('table', {}, el('thead'), el('tbody'))),
    code: b => {
        const inside = el('code', {}, document.createTextNode(''));
        return el('div', { class: 'code' },
            el('div', { class: 'code-head' }, el('span', {}, b.head || 'text'),
                copyButton('Copy code', () => inside.textContent)),
            el('pre', { tabindex: 0 }, inside));
    },
};

const FILL = {
    paragraph: text,
    heading: text,
    quote: nested,
    item: nested,
    list: (node, b, depth) => sync(node, b.items.map(src => ({ kind: 'item', head: '', src })), depth, b.open),
    row: (node, b) => b.cells.forEach((src, n) => {
        node.children[n].replaceChildren(inline(src, b.open));
        node.children[n].className = ['', 'left', 'right', 'center'][b.align[n] || 0];
    }),
    table: (node, b, depth) => {
        const width = cells(b.head).length, [thead, tbody] = node.firstChild.children;
        const row = (tag, line) => {
            const own = cells(line);
            const all = Array.from({ length: width }, (_, n) => own[n] || '');
            return { kind: 'row', head: width, tag, src: b.align + line, align: b.align, cells: all };
        };
        sync(thead, [row('th', b.head)], depth, b.open);
        sync(tbody, b.src.split('\n').slice(1).map(line => row('td', line)), depth, b.open);
    },
    code: (node, b, depth, was) => {
        const inside = node.lastChild.firstChild, shown = was ? was.src : '';
        if (b.src.startsWith(shown) && inside.firstChild?.nodeType === Node.TEXT_NODE && !inside.children.length)
            inside.firstChild.appendData(b.src.slice(shown.length));
        else inside.replaceChildren(document.createTextNode(b.src));
        if (b.closed || !b.open) inside.replaceChildren(colour(b.src, b.head));
    },
};
