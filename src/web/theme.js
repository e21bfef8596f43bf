/* Light or dark, before the first paint: a plain script in the head, because modules run later. */
'use strict';
{
    const dark = matchMedia('(prefers-color-scheme: dark)');
    const root = document.documentElement;
    let wanted = null; // null: as the system says
    try {
        wanted = localStorage.getItem('solvent.theme');
    } catch { /* storage is switched off */ }
    const show = () => { root.dataset.theme = wanted || (dark.matches ? 'dark' : 'light'); };
    dark.addEventListener('change', show);
    show();
    window.switchTheme = () => {
        const next = root.dataset.theme === 'dark' ? 'light' : 'dark';
        wanted = (next === 'dark') === dark.matches ? null : next;
        try {
            if (wanted) localStorage.setItem('solvent.theme', wanted);
            else localStorage.removeItem('solvent.theme');
        } catch { /* it holds until the page is left */ }
        show();
    };
}
