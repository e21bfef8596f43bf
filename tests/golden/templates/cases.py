"""Conversations that every template is rendered with: those here, and those of cases.json, which
are written out because their exact bytes and number forms matter."""
import json
import pathlib

CALCULATE = {'type': 'function', 'function': {
    'name': 'calculate', 'description': 'Works out an expression.',
    'parameters': {'type': 'object', 'required': ['expression'], 'properties': {
        'expression': {'type': 'string', 'description': 'What to work out, "2+2" say'},
        'digits': {'type': 'integer', 'default': 2, 'minimum': 0},
        'mode': {'type': 'string', 'enum': ['exact', 'rounded'], 'default': 'exact'}}}}}
WEATHER = {'type': 'function', 'function': {
    'name': 'get_weather', 'description': 'The weather <now> & "here"; für Städte.\nTwo lines.',
    'strict': True,
    'parameters': {'type': 'object', 'required': ['place', 'days'], 'properties': {
        'place': {'type': 'object', 'properties': {
            'city': {'type': 'string'}, 'where': {'type': 'array', 'items': {'type': 'number'}}}},
        'days': {'type': ['integer', 'null']},
        'units': {'type': 'array', 'items': {'type': 'string', 'enum': ['C', 'F']}},
        'more': {'type': 'object', 'additionalProperties': {'type': 'boolean'}},
        'either': {'oneOf': [{'type': 'string', 'description': 'a name'}, {'type': 'integer'}]}}},
    'return': {'type': 'object'}}}
NO_PARAMETERS = {'type': 'function', 'function': {
    'name': 'now', 'description': '', 'parameters': {'type': 'object', 'properties': {}}}}


def user(text):
    return {'role': 'user', 'content': text}


def system(text):
    return {'role': 'system', 'content': text}


def assistant(text, **more):
    return {'role': 'assistant', 'content': text, **more}


def call(name, arguments, call_id='abcDEF123'):
    return {'id': call_id, 'type': 'function', 'function': {'name': name, 'arguments': arguments}}


def tool(text, call_id='abcDEF123', **more):
    return {'role': 'tool', 'content': text, 'tool_call_id': call_id, **more}


ONE_CALL = [user('What is 6 times 7?'),
            assistant(None, tool_calls=[call('calculate', {'expression': '6*7', 'digits': 0})]), tool('42')]
UNICODE = 'Grüße aus 東京 🗼 — “naïve” ﷽ e\u0301\u200d\u00a0\u2028end'

CASES = {
    'one question': {'messages': [user('Hello')]},
    'system and question': {'messages': [system('Be brief.'), user('Hello')]},
    'many turns': {'messages': [system('  You know  things.\n'), user(' Hi '), assistant('\n Hello! \n'),
                                user('Why?'), assistant('Because.'), user('Thanks\n\n\r\nindeed')]},
    'ends with the assistant': {'messages': [user('Say yes'), assistant('yes')]},
    'starts with the assistant': {'messages': [assistant('Ask me'), user('When?')]},
    'two users in a row': {'messages': [user('One'), user('Two')]},
    'late system': {'messages': [user('One'), system('Speak French'), user('Two')]},
    'empty conversation': {'messages': []},
    'empty strings': {'messages': [system(''), user(''), assistant(''), user('')]},
    'content is null': {'messages': [user('Hi'), assistant(None), user('again')]},
    'no content': {'messages': [user('Hi'), {'role': 'assistant'}, {'role': 'user'}]},
    'no role': {'messages': [{'content': 'Hi'}]},
    'unknown role': {'messages': [{'role': 'critic', 'content': 'Bad.'}, user('Hi')]},
    'unicode': {'messages': [system('Antworte auf Österreichisch ß İ ǅ'), user(UNICODE)]},
    'markup and escapes': {'messages': [user('<b>&amp; "quoted" \'single\' \\n {{ x }} {% if %} <|im_end|>\t\u0001\u007f')]},
    'parts': {'messages': [user([{'type': 'text', 'text': ' Look: '}, {'type': 'image', 'url': 'x.png'},
                                 {'type': 'text', 'text': 'what is it?'}]), assistant('A cat'), user('Sure?')]},
    'parts of the system': {'messages': [system([{'type': 'text', 'text': 'Sys'}]), user('Hi')]},
    'odd parts': {'messages': [user([{'type': 'image_url', 'image_url': {'url': 'u'}}, {'type': 'sound'}])]},
    'tools': {'messages': [user('What is 6 times 7?')], 'tools': [CALCULATE]},
    'tools and system': {'messages': [system('Use tools.'), user('Weather?')],
                         'tools': [CALCULATE, WEATHER, NO_PARAMETERS]},
    'no tools': {'messages': [user('Hi')], 'tools': []},
    'tools are null': {'messages': [user('Hi')], 'tools': None},
    'bare tools': {'messages': [user('Hi')], 'tools': [CALCULATE['function']]},
    'call and result': {'messages': ONE_CALL, 'tools': [CALCULATE]},
    'call, result, answer': {'messages': ONE_CALL + [assistant('It is 42.'), user('And half of it?')],
                             'tools': [CALCULATE, WEATHER]},
    'calls without tools': {'messages': ONE_CALL},
    'two calls': {'messages': [
        user('Both'), assistant('I try.', tool_calls=[
            call('calculate', {'expression': '1 < 2 && "é"', 'x': [1, 2.5, None, True, {'y': {}}]}, 'aaaaaaaaa'),
            call('get_weather', {'place': {'city': 'Zürich'}, 'days': 3}, 'bbbbbbbbb')]),
        tool('true', 'aaaaaaaaa'), tool('{"sun": 1e-7}', 'bbbbbbbbb'), assistant('Sunny.')],
        'tools': [CALCULATE, WEATHER]},
    'arguments as text': {'messages': [user('Go'), assistant('', tool_calls=[call('now', '{"a": 1}')]), tool('12:00')],
                          'tools': [NO_PARAMETERS]},
    'result is an object': {'messages': ONE_CALL[:2] + [tool({'value': 42, 'units': ['m', None]}, name='calculate')]},
    'thoughts in the text': {'messages': [user('Hi'), assistant('<think>\nHm.\n</think>\n\nHello'), user('Why?'),
                                          assistant('<think>\nWell\n</think>\n\nSo.')]},
    'thoughts apart': {'messages': [user('Hi'), assistant('Hello', reasoning_content='\nHm.\n', thinking='Hm.')]},
    'thoughts before a call': {'messages': [ONE_CALL[0], dict(ONE_CALL[1], reasoning_content='Let me see', thinking='See'),
                                            ONE_CALL[2]], 'tools': [CALCULATE]},
    'without thinking': {'messages': [system('/no_think Be kind. '), user('Hi')], 'enable_thinking': False},
    'with thinking': {'messages': [user('Hi')], 'enable_thinking': True},
    'other variables': {
        'messages': [system('S'), user('U')], 'tools': [CALCULATE], 'date_string': '2 Feb 2026', 'use_date': True,
        'tools_in_user_message': False, 'builtin_tools': ['search', 'interpreter'], 'reasoning_effort': 'high',
        'documents': [{'text': 'One\ntwo'}, {'text': 'Three'}], 'controls': {'length': 'short'}, 'year': 2030,
        'contexts': [' a ', 'b'], 'today': 'now'},
    'names': {'messages': [dict(user('Hi'), name='Ann'), dict(assistant('Hello'), name='Bot', metadata='m')]},
    'long': {'messages': [m for i in range(40) for m in (user(f'Question {i}? ' * 5), assistant(f'Answer {i}.\n' * 7))]
             + [user('Last')]},
}
CASES |= json.loads((pathlib.Path(__file__).parent / 'cases.json').read_text(encoding='utf-8'))
