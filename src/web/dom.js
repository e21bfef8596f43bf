/* Elements in one line. Text becomes text nodes, attributes are set one by one: no HTML is ever parsed. */

export const $ = id => document.getElementById(id);

/* el('a', {href, class: 'x', onclick: f}, 'text', node): functions become listeners, false is left out. */
export function el(tag, props, ...inside) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(props || {})) {
        if (typeof value === 'function') node.addEventListener(name.slice(2), value);
        else if (value !== false && value !== undefined) node.setAttribute(name, value);
    }
    node.append(...inside);
    return node;
}

/* One of the drawings at the end of index.html. */
export function icon(name) {
    const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
    const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
    use.setAttribute('href', '#i-' + name);
    svg.setAttribute('aria-hidden', 'true');
    svg.append(use);
    return svg;
}

export function iconButton(name, label, onclick, props) {
    return el('button', { type: 'button', class: 'icon', 'aria-label': label, title: label, onclick, ...props },
        icon(name));
}

/* A button that copies what text() gives and says so for a moment. */
export function copyButton(label, text) {
    const button = iconButton('copy', label, async () => {
        const done = await copy(text());
        button.replaceChildren(icon(done ? 'check' : 'copy'));
        $('said').textContent = done ? 'Copied' : 'The browser does not let the page copy';
        setTimeout(() => button.replaceChildren(icon('copy')), 1500);
    });
    return button;
}

/* Pages over plain HTTP from another machine have no clipboard API: there the old command does it. */
async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const focused = document.activeElement;
        const area = el('textarea', { class: 'hidden', 'aria-hidden': 'true' });
        area.value = text;
        document.body.append(area);
        area.select();
        const done = document.execCommand('copy');
        area.remove();
        focused?.focus();
        return done;
    }
}
