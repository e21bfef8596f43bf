/* Colours for finished code: comments, strings, numbers, and the words that most languages share. A hint for the eye,
 * no parser; code of unknown languages, and long code, stays plain. */

import { el } from './dom.js';

const LONGEST = 50000;
const HASH = 'bash dockerfile ini make makefile perl python py r ruby rb sh shell toml yaml yml zsh console'.split(' ');
const DASH = 'haskell lua sql'.split(' ');
const SLASH = ('c cc cpp c++ cs csharp css dart go h hpp java javascript js json jsx kotlin php rust rs scala swift ' +
    'ts tsx typescript zig').split(' ');
const WORDS = new Set((
    'abstract and as async await begin bool break case catch char class const continue def default defer del do ' +
    'done double echo elif else end enum esac except export extends extern false fi final finally float fn for ' +
    'from func function global goto if impl implements import in int interface is lambda let local long loop ' +
    'match mod module mut namespace new nil none not null or package pass private protected pub public raise ' +
    'return self short signed sizeof static struct super switch then this throw trait true try type typedef union ' +
    'unsigned use using var void volatile where while with yield select insert update delete create table into ' +
    'values join on group order by having limit').split(' '));

const rest = String.raw`|("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\x60[^\x60]*(?:\x60|$))|\b(\d[\w.]*)|([A-Za-z_]\w*)`;
const GRAMMARS = [
    [HASH, new RegExp(String.raw`((?:^|(?<=\s))#[^\n]*)` + rest, 'g')],
    [DASH, new RegExp(String.raw`(--[^\n]*)` + rest, 'g')],
    [SLASH, new RegExp(String.raw`(\/\/[^\n]*|\/\*[^]*?(?:\*\/|$))` + rest, 'g')],
];

export function colour(text, language) {
    const out = document.createDocumentFragment(), name = language.toLowerCase();
    const grammar = text.length <= LONGEST && GRAMMARS.find(([names]) => names.includes(name));
    let done = 0;
    const put = (m, kind) => {
        out.append(text.slice(done, m.index), el('span', { class: 't-' + kind }, m[0]));
        done = m.index + m[0].length;
    };
    for (const m of grammar ? text.matchAll(grammar[1]) : []) {
        if (m[1]) put(m, 'comment');
        else if (m[2]) put(m, 'string');
        else if (m[3]) put(m, 'number');
        else if (WORDS.has(m[4]) || DASH.includes(name) && WORDS.has(m[4].toLowerCase())) put(m, 'word');
    }
    out.append(text.slice(done));
    return out;
}
