# bash completion for solvent(1). Commands, flags and models come from the program itself.

_solvent_models() {
    "$1" list 2>/dev/null | awk -v all="$2" 'NR > 1 && (all || !/ not here /) { print $1 }'
}

_solvent() {
    local solvent=${COMP_WORDS[0]} command=${COMP_WORDS[1]} word=${COMP_WORDS[COMP_CWORD]} words
    local before=${COMP_WORDS[COMP_CWORD - 1]}
    COMPREPLY=()
    if ((COMP_CWORD == 1)); then
        words=$("$solvent" --help 2>/dev/null | awk '/^  [a-z]/ { print $1 }')
        words+=' --help --version'
    elif [[ $word == -* ]]; then
        words=$("$solvent" "$command" --help 2>/dev/null | grep -oE '^  (-.,)?--[a-z0-9-]+' | grep -oE -- '--[a-z0-9-]+')
        words+=' --help'
    elif [[ $command == pull ]]; then
        words=$(_solvent_models "$solvent" all)
    elif [[ $command == rm || $before == -m || $before == --model || $command$COMP_CWORD == @(run|inspect)2 ]]; then
        words=$(_solvent_models "$solvent" '')
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}

complete -o default -F _solvent solvent
