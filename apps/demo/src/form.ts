import type { Field, Values } from './fields.ts'

/** an element with properties and children */
export const element = <K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> & { readonly describedBy?: string } = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] => {
  const { describedBy, ...own } = properties
  const made = Object.assign(document.createElement(tag), own)
  if (describedBy) made.setAttribute('aria-describedby', describedBy)
  made.append(...children)
  return made
}

/** the element with this id, of this kind */
export const byId = <T extends HTMLElement = HTMLElement>(id: string): T => {
  const found = document.getElementById(id)
  if (!found) throw new Error(`the page has no element '${id}'`)
  return found as T
}

const control = (field: Field, id: string): HTMLElement => {
  const described = field.help ? { describedBy: `${id}-help` } : {}
  if (field.kind === 'select')
    return element(
      'select',
      { id, name: field.name, ...described },
      ...Object.entries(field.options).map(([value, text]) =>
        element('option', { value, selected: value === field.value }, text),
      ),
    )
  if (field.kind === 'check')
    return element('input', { type: 'checkbox', id, name: field.name, checked: field.value, ...described })
  return element('input', {
    ...{ type: 'number', id, name: field.name, required: true },
    ...{
      min: String(field.min),
      max: String(field.max),
      step: String(field.step ?? 1),
      defaultValue: String(field.value),
    },
    ...described,
  })
}

const row = (field: Field, id: string): HTMLElement => {
  const label = element('label', { htmlFor: id }, field.label)
  const help = field.help ? [element('p', { className: 'help', id: `${id}-help` }, field.help)] : []
  if (field.kind === 'check')
    return element(
      'div',
      { className: 'check' },
      element('div', { className: 'choice' }, control(field, id), label),
      ...help,
    )
  return element('div', { className: field.wide ? 'field wide' : 'field' }, label, control(field, id), ...help)
}

/** Draws fields into a container; what is seldom changed is folded away. */
export const draw = (container: HTMLElement, fields: readonly Field[]): void => {
  const rows = (more: boolean): HTMLElement[] =>
    fields.filter((f) => (f.more ?? false) === more).map((f) => row(f, `${container.id}-${f.name}`))
  const folded = rows(true)
  container.replaceChildren(
    ...rows(false),
    ...(folded.length
      ? [element('details', {}, element('summary', {}, 'More'), element('div', { className: 'fields' }, ...folded))]
      : []),
  )
}

/** The values of the fields in a container, or undefined where one is out of its range: the browser says which. */
export const values = <F extends readonly Field[]>(container: HTMLElement, fields: F): Values<F> | undefined => {
  const found: Record<string, unknown> = {}
  for (const { name, kind } of fields) {
    const input = container.querySelector<HTMLInputElement>(`[name="${name}"]`)!
    if (!input.checkValidity()) {
      const fold = input.closest('details')
      if (fold) fold.open = true
      input.reportValidity()
      return undefined
    }
    found[name] = kind === 'number' ? input.valueAsNumber : kind === 'check' ? input.checked : input.value
  }
  return found as Values<F>
}
