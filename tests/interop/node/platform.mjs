// What @platformatic/kafka takes for granted from node 22 on, for machines with an older one.

Promise.withResolvers ??= function () {
  let resolve, reject
  const promise = new Promise((...functions) => { [resolve, reject] = functions })
  return { promise, resolve, reject }
}
