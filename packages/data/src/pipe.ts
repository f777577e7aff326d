import type { Stage } from '@weftjs/spec'

interface Pipe {
  <A>(source: AsyncIterable<A>): AsyncIterable<A>
  <A, B>(source: AsyncIterable<A>, a: Stage<A, B>): AsyncIterable<B>
  <A, B, C>(source: AsyncIterable<A>, a: Stage<A, B>, b: Stage<B, C>): AsyncIterable<C>
  <A, B, C, D>(source: AsyncIterable<A>, a: Stage<A, B>, b: Stage<B, C>, c: Stage<C, D>): AsyncIterable<D>
  <A, B, C, D, E>(
    source: AsyncIterable<A>,
    a: Stage<A, B>,
    b: Stage<B, C>,
    c: Stage<C, D>,
    d: Stage<D, E>,
  ): AsyncIterable<E>
  <A, B, C, D, E, F>(
    source: AsyncIterable<A>,
    a: Stage<A, B>,
    b: Stage<B, C>,
    c: Stage<C, D>,
    d: Stage<D, E>,
    e: Stage<E, F>,
  ): AsyncIterable<F>
  <A, B, C, D, E, F, G>(
    source: AsyncIterable<A>,
    a: Stage<A, B>,
    b: Stage<B, C>,
    c: Stage<C, D>,
    d: Stage<D, E>,
    e: Stage<E, F>,
    f: Stage<F, G>,
  ): AsyncIterable<G>
}

/** A source and the stages it goes through, from left to right. Nothing runs until the result is iterated. */
export const pipe: Pipe = (source: AsyncIterable<unknown>, ...stages: Stage<never, unknown>[]): AsyncIterable<never> =>
  stages.reduce((items, next) => next(items as AsyncIterable<never>), source) as AsyncIterable<never>
